// Errors as messages, and back.
#include "ipc/message.h"

namespace polykv {
namespace {

// Half a field's limit: invalid bytes grow to three when they are replaced.
constexpr size_t kSentence = 2500;

std::string clip(const std::string& text) {
  return text.size() <= kSentence ? text : text.substr(0, kSentence) + "…";
}

}  // namespace

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
