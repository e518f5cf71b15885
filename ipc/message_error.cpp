// What needs no JSON: 64-bit ids as texts; errors as messages, and back.
#include "ipc/message.h"
#include "ipc/message_schema.h"

namespace polykv {
namespace {

// Half a field's limit: invalid bytes grow to three when they are replaced.
constexpr size_t kSentence = 2500;

std::string clip(const std::string& text) {
  return text.size() <= kSentence ? text : text.substr(0, kSentence) + "…";
}

}  // namespace

uint64_t Message::id(std::string_view field) const {
  uint64_t value = 0;
  check(!has(field) || parse_id(text(field), value), "id() is asked of an id field");
  return value;
}

Message error_message(const Error& error) {
  Message message("error");
  message.set("code", error_name(error.code)).set("message", clip(error.message));
  message.set("value", clip(error.value)).set("limit", clip(error.limit));
  return message;
}

Error error_of(const Message& message) {
  return {error_from_name(message.text("code")), message.text("message"), message.text("value"),
          message.text("limit")};
}

}  // namespace polykv
