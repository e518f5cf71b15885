// Control messages: what is accepted is written and read again as the same, and each field has the
// type that its schema says; what is refused is refused in a message that is one itself.
#include "ipc/message.h"
#include "ipc/message_schema.h"
#include "tests/fuzz/fuzz.h"

using namespace polykv;

namespace {

void get(const Message& message, const Field& field) {
  switch (field.kind) {
    case FieldKind::integer:
      (void)message.integer(field.name);
      break;
    case FieldKind::number:
      (void)message.number(field.name);
      break;
    case FieldKind::flag:
      (void)message.flag(field.name);
      break;
    case FieldKind::id:
      (void)message.id(field.name);
      break;
    case FieldKind::texts:
      check(message.texts(field.name).size() <= field.count, "a list is as short as it must be");
      break;
    case FieldKind::integers:
      check(message.integers(field.name).size() <= field.count, "a list is as short as it must be");
      break;
    case FieldKind::objects:
      check(message.objects(field.name).size() <= field.count, "a list is as short as it must be");
      break;
    case FieldKind::object:
      break;
    default:
      check(!invalid_utf8(message.text(field.name)), "a text is UTF-8");
  }
}

void check_message(const Message& message) {
  const MessageSchema* schema = find_schema(message.type());
  check(schema != nullptr, "a message is of a known type");
  for (const Field& field : schema->fields) {
    check(message.has(field.name) || !field.required, "a message has its fields");
    if (message.has(field.name)) get(message, field);
  }
  const std::string first = message.dump();
  const auto again = Message::parse(first);
  check(again.has_value(), "what is written reads");
  check(again->dump() == first, "and reads the same");
  if (message.type() == "error") (void)error_of(message);
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  const auto message = Message::parse(text);
  if (message) {
    check_message(*message);
    return 0;
  }
  const Error& error = message.error();
  check(error.code == ErrorCode::bad_message || error.code == ErrorCode::protocol_version,
        "a refusal has its code");
  const auto sent = Message::parse(error_message(error).dump());
  check(sent.has_value(), "a refusal can be sent");
  const std::string id = id_of_refused(text);
  check(id.size() <= 64 && !invalid_utf8(id), "an id is one");
  return 0;
}
