// docs/protocol.schema.json says what the table of messages says, for programs in other languages.
#include "ipc/message_schema.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "ipc/message.h"

namespace polykv {
namespace {

using Ordered = nlohmann::ordered_json;

constexpr const char* kCommitted = POLYKV_SOURCE_DIR "/docs/protocol.schema.json";
constexpr const char* kWriteTo = "POLYKV_WRITE_PROTOCOL_SCHEMA";

// Decimal numbers below 2^64, digit by digit.
constexpr const char* kIdPattern =
    "^(0|[1-9][0-9]{0,18}|1[0-7][0-9]{18}|18[0-3][0-9]{17}|184[0-3][0-9]{16}"
    "|1844[0-5][0-9]{15}|18446[0-6][0-9]{14}|184467[0-3][0-9]{13}"
    "|1844674[0-3][0-9]{12}|184467440[0-6][0-9]{10}|1844674407[0-2][0-9]{9}"
    "|18446744073[0-6][0-9]{8}|1844674407370[0-8][0-9]{6}|18446744073709[0-4][0-9]{5}"
    "|184467440737095[0-4][0-9]{4}|18446744073709550[0-9]{3}"
    "|18446744073709551[0-5][0-9]{2}|1844674407370955160[0-9]"
    "|1844674407370955161[0-4]|18446744073709551615)$";

Ordered reference(std::string_view name) { return {{"$ref", cat("#/$defs/", name)}}; }

// JSON Schema counts characters, the protocol bytes: what passes here may still be too long there.
Ordered string_of(const Field& field) {
  return {{"type", "string"}, {"minLength", field.low}, {"maxLength", field.high}};
}

Ordered ranged(const char* type, const Field& field) {
  return {{"type", type}, {"minimum", field.low}, {"maximum", field.high}};
}

Ordered list_of(const Field& field, Ordered items) {
  return {{"type", "array"}, {"maxItems", field.count}, {"items", std::move(items)}};
}

Ordered words_of(std::string_view words) {
  Ordered list = Ordered::array();
  for (size_t at; (at = words.find('|')) != words.npos; words.remove_prefix(at + 1)) {
    list.push_back(words.substr(0, at));
  }
  list.push_back(words);
  return list;
}

Ordered value_schema(const Field& field) {
  Ordered schema;
  switch (field.kind) {
    case FieldKind::text:
      return string_of(field);
    case FieldKind::choice:
      return {{"enum", words_of(field.words)}};
    case FieldKind::path:
      schema = string_of(field);
      schema["pattern"] = "^/[^\\u0000]*$";
      return schema;
    case FieldKind::integer:
      return ranged("integer", field);
    case FieldKind::number:
      return ranged("number", field);
    case FieldKind::flag:
      return {{"type", "boolean"}};
    case FieldKind::id:
      return reference("id");
    case FieldKind::texts:
      return list_of(field, string_of(field));
    case FieldKind::integers:
      return list_of(field, ranged("integer", field));
    case FieldKind::object:
      return reference(field.words);
    case FieldKind::objects:
      return list_of(field, reference(field.words));
  }
  return schema;
}

// An object that only lies inside others has no version and type of its own.
bool only_inside(const MessageSchema& schema) {
  return std::ranges::any_of(message_schemas(), [&](const MessageSchema& other) {
    return std::ranges::any_of(other.fields, [&](const Field& field) {
      const bool nests = field.kind == FieldKind::object || field.kind == FieldKind::objects;
      return nests && field.words == schema.name;
    });
  });
}

// oneOf is true if exactly one alternative is: one field is there, or (if none has to be) none is.
Ordered rule_of(const Choice& choice) {
  Ordered alternatives = Ordered::array(), any = Ordered::array();
  for (const std::string_view field : choice.fields) {
    alternatives.push_back({{"required", {field}}});
  }
  any = alternatives;
  if (!choice.one) alternatives.push_back({{"not", {{"anyOf", any}}}});
  return {{"oneOf", alternatives}};
}

Ordered object_schema(const MessageSchema& schema) {
  Ordered properties = Ordered::object(), required = Ordered::array();
  const auto add = [&](const Field& field) {
    properties[std::string(field.name)] = value_schema(field);
    if (field.required) required.push_back(field.name);
  };
  if (!only_inside(schema)) {
    for (const Field& field : common_fields()) {
      if (!schema.way.empty() || field.required) add(field);
    }
    properties["v"] = {{"const", kProtocolVersion}};
    properties["type"] = {{"const", schema.name}};
  }
  for (const Field& field : schema.fields) add(field);
  Ordered object;
  if (!schema.way.empty()) object["description"] = schema.way;
  object["type"] = "object";
  object["properties"] = std::move(properties);
  object["required"] = std::move(required);
  object["additionalProperties"] = false;
  Ordered rules = Ordered::array();
  for (const Choice& choice : schema.choices) rules.push_back(rule_of(choice));
  if (!rules.empty()) object["allOf"] = std::move(rules);
  return object;
}

std::string whole_schema() {
  Ordered messages = Ordered::array(), definitions = Ordered::object();
  for (const MessageSchema& schema : message_schemas()) {
    if (!schema.way.empty()) messages.push_back(reference(schema.name));
    definitions[std::string(schema.name)] = object_schema(schema);
  }
  definitions["id"] = {{"description", "a number below 2^64 as a decimal string"},
                       {"type", "string"},
                       {"pattern", kIdPattern}};
  const Ordered whole{
      {"$schema", "https://json-schema.org/draft/2020-12/schema"},
      {"title", cat("The control protocol of polykv, version ", kProtocolVersion)},
      {"description",
       "Any one message. Written from the table in ipc/message_table_*.cpp; docs/protocol.md "
       "explains it. Lengths of strings are bytes there and characters here."},
      {"oneOf", messages},
      {"$defs", definitions}};
  return whole.dump(2) + "\n";
}

std::string file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

TEST(ProtocolSchema, committed_file_is_what_the_table_says) {
  const std::string wanted = whole_schema();
  if (const char* path = std::getenv(kWriteTo); path != nullptr) {
    std::ofstream out(path, std::ios::binary);
    out << wanted << std::flush;
    ASSERT_TRUE(out) << "cannot write " << path;
  }
  const std::string committed = file(kCommitted);
  const auto differ = std::ranges::mismatch(committed, wanted);
  EXPECT_TRUE(committed == wanted)
      << "docs/protocol.schema.json differs from the table at line "
      << 1 + std::count(committed.begin(), differ.in1, '\n') << "; write it anew with\n  "
      << kWriteTo << "=docs/protocol.schema.json BUILD/bin/ipc_message_test "
      << "--gtest_filter='ProtocolSchema.*'";
}

Ordered committed_definition(const std::string& name) {
  const Ordered whole = Ordered::parse(file(kCommitted), nullptr, false);
  EXPECT_TRUE(whole.is_object() && whole.contains("$defs") && whole["$defs"].contains(name));
  return whole.is_object() ? whole["$defs"].value(name, Ordered::object()) : Ordered::object();
}

TEST(ProtocolSchema, message_is_a_closed_object_of_its_own_type_and_version) {
  const Ordered fork = committed_definition("pool_fork");
  EXPECT_EQ(fork["additionalProperties"], false);
  EXPECT_EQ(fork["required"], Ordered({"v", "type", "pool", "to"}));
  EXPECT_EQ(fork["properties"]["v"], Ordered({{"const", 1}}));
  EXPECT_EQ(fork["properties"]["type"], Ordered({{"const", "pool_fork"}}));
  EXPECT_EQ(fork["properties"]["to"],
            Ordered({{"type", "string"}, {"minLength", 1}, {"maxLength", 64}}));
  EXPECT_EQ(fork["properties"]["version"]["maximum"], int64_t{1} << 53);
}

TEST(ProtocolSchema, object_inside_messages_has_no_type_and_is_referred_to) {
  const Ordered pool = committed_definition("pool_status");
  EXPECT_FALSE(pool["properties"].contains("type"));
  EXPECT_EQ(committed_definition("snapshot")["properties"]["pools"]["items"]["$ref"],
            "#/$defs/pool_status");
}

TEST(ProtocolSchema, report_is_a_document_of_its_own_but_no_message) {
  EXPECT_EQ(committed_definition("report")["properties"]["type"], Ordered({{"const", "report"}}));
  const Ordered whole = Ordered::parse(file(kCommitted), nullptr, false);
  ASSERT_TRUE(whole.is_object());
  EXPECT_EQ(std::ranges::count(whole["oneOf"], reference("report")), 0);
  EXPECT_EQ(std::ranges::count(whole["oneOf"], reference("pool_drop")), 1);
}

}  // namespace
}  // namespace polykv
