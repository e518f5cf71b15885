// Every field of every message, dropped, mistyped, out of range or added to: all refused, with the
// field's name. The messages are made from the table itself.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "ipc/message.h"
#include "ipc/message_schema.h"
#include "tests/ipc/filled_message.h"

namespace polykv {
namespace {

using nlohmann::json;
using testing::field_value;
using testing::filled_message;

json wrong_type(const Field& field) {
  switch (field.kind) {
    case FieldKind::integer:
      return 0.5;
    case FieldKind::number:
      return "1";
    case FieldKind::flag:
      return 1;
    case FieldKind::id:
      return 7;
    default:
      return false;
  }
}

// Values just beyond what the field takes; empty where its type says it all.
std::vector<json> out_of_range(const Field& field) {
  switch (field.kind) {
    case FieldKind::choice:
      return {"nonsense", ""};
    case FieldKind::path:
      return {"relative", "", std::string("/a\0b", 4)};
    case FieldKind::integer:
      return {field.low - 1, field.high + 1};
    case FieldKind::number:
      return {static_cast<double>(field.low) - 1, static_cast<double>(field.high) * 2 + 2};
    case FieldKind::id:
      return {"18446744073709551616", "-1", "01", "", "1.0"};
    case FieldKind::texts:
      return {json(std::vector<std::string>(field.count + 1, "x")), json::array({""}),
              json::array({std::string(static_cast<size_t>(field.high) + 1, 'x')})};
    case FieldKind::integers:
      return {json::array({field.low - 1}), json::array({field.high + 1})};
    case FieldKind::objects:
      return {json::array({1})};
    case FieldKind::text: {
      std::vector<json> wrong{std::string(static_cast<size_t>(field.high) + 1, 'x')};
      if (field.low > 0) wrong.emplace_back("");
      return wrong;
    }
    default:
      return {};
  }
}

class EveryMessage : public ::testing::Test {
 protected:
  // Calls for each message of the table: its schema and an instance with all fields.
  template <class Try>
  static void each(const Try& attempt) {
    for (const MessageSchema& schema : message_schemas()) {
      if (schema.way.empty()) continue;  // only part of others
      json message = json::parse(filled_message(schema));
      message["v"] = kProtocolVersion;
      message["type"] = schema.name;
      message["id"] = "r1";
      attempt(schema, message);
    }
  }

  static void expect_refused(const json& message, const std::string& name) {
    const auto parsed = Message::parse(message.dump());
    ASSERT_FALSE(parsed) << message.dump().substr(0, 400);
    EXPECT_EQ(parsed.error().code, ErrorCode::bad_message);
    EXPECT_NE(parsed.error().message.find(name), std::string::npos)
        << "'" << name << "' is not in: " << parsed.error().message;
  }
};

TEST_F(EveryMessage, is_read_with_all_its_fields_and_printed_as_it_came) {
  each([](const MessageSchema&, const json& message) {
    const auto parsed = Message::parse(message.dump());
    ASSERT_TRUE(parsed) << parsed.error().message;
    EXPECT_EQ(json::parse(parsed->dump()), message);
  });
}

TEST_F(EveryMessage, without_a_required_field_is_refused) {
  each([](const MessageSchema& schema, const json& message) {
    for (const Field& field : schema.fields) {
      json without = message;
      without.erase(std::string(field.name));
      if (!field.required) continue;
      expect_refused(without, std::string(field.name));
    }
  });
}

TEST_F(EveryMessage, with_a_field_of_another_type_is_refused) {
  each([](const MessageSchema& schema, const json& message) {
    for (const Field& field : schema.fields) {
      if (!message.contains(field.name)) continue;
      for (const json& wrong : {wrong_type(field), json(nullptr), json::object({{"x", 1}})}) {
        json changed = message;
        changed[std::string(field.name)] = wrong;
        expect_refused(changed, std::string(field.name));
      }
    }
  });
}

TEST_F(EveryMessage, with_a_value_out_of_range_is_refused) {
  each([](const MessageSchema& schema, const json& message) {
    for (const Field& field : schema.fields) {
      if (!message.contains(field.name)) continue;
      for (const json& wrong : out_of_range(field)) {
        json changed = message;
        changed[std::string(field.name)] = wrong;
        expect_refused(changed, std::string(field.name));
      }
    }
  });
}

TEST_F(EveryMessage, with_one_field_more_is_refused_within_its_objects_too) {
  each([](const MessageSchema& schema, const json& message) {
    json more = message;
    more["surplus"] = 1;
    expect_refused(more, "surplus");
    for (const Field& field : schema.fields) {
      if (!message.contains(field.name) || field.kind != FieldKind::objects) continue;
      json inside = message;
      inside[std::string(field.name)][0]["surplus"] = 1;
      expect_refused(inside, "surplus");
    }
  });
}

TEST_F(EveryMessage, with_two_fields_that_exclude_each_other_is_refused) {
  each([](const MessageSchema& schema, const json& message) {
    for (const Choice& choice : schema.choices) {
      json both = message;
      for (const std::string_view name : choice.fields) {
        both[std::string(name)] = json::parse(field_value(*schema.find(name)));
      }
      expect_refused(both, std::string(choice.fields.back()));
    }
  });
}

}  // namespace
}  // namespace polykv
