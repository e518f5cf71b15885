// A value for each kind of field.
#include "tests/ipc/filled_message.h"

#include <nlohmann/json.hpp>

namespace polykv::testing {
namespace {

using nlohmann::json;

json filled(const MessageSchema& schema);

json good_value(const Field& field) {
  switch (field.kind) {
    case FieldKind::choice:
      return std::string(field.words.substr(0, field.words.find('|')));
    case FieldKind::path:
      return "/a";
    case FieldKind::integer:
      return field.low;
    case FieldKind::number:
      return static_cast<double>(field.low);
    case FieldKind::flag:
      return true;
    case FieldKind::id:
      return "18446744073709551615";
    case FieldKind::texts:
      return json::array({std::string(static_cast<size_t>(field.low), 'x')});
    case FieldKind::integers:
      return json::array({field.low});
    case FieldKind::objects:
      return json::array({filled(*find_schema(field.words))});
    case FieldKind::object:
      return filled(*find_schema(field.words));
    default:
      return std::string(static_cast<size_t>(field.low), 'x');
  }
}

json filled(const MessageSchema& schema) {
  json message = json::object();
  for (const Field& field : schema.fields) message[std::string(field.name)] = good_value(field);
  for (const Choice& choice : schema.choices) {
    for (size_t i = 1; i < choice.fields.size(); ++i) message.erase(std::string(choice.fields[i]));
  }
  return message;
}

}  // namespace

std::string filled_message(const MessageSchema& schema) { return filled(schema).dump(); }

std::string field_value(const Field& field) { return good_value(field).dump(); }

}  // namespace polykv::testing
