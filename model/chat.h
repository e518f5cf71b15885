// Chat formats: how messages become text pieces. A pool's text ends at a special token, so that
// tokenising its parts equals tokenising the whole.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer.h"

namespace polykv {

// One message of a conversation.
struct ChatTurn {
  std::string role;  // system, user or assistant
  std::string content;
};

class ChatFormat {
 public:
  // "chatml"; unsupported_model names the choices.
  static Result<ChatFormat> find(std::string_view name);

  // The shared document as a message of its own (role system), ending at the special token.
  // `first`: it opens the context; otherwise it follows an earlier one.
  std::vector<TextPiece> document(std::string_view text, bool first,
                                  std::string_view role = "system") const;
  // A conversation after the documents, up to where the assistant's answer begins.
  std::vector<TextPiece> conversation(std::span<const ChatTurn> turns) const;
  // The same of one message of the user.
  std::vector<TextPiece> question(std::string_view text) const;
  // What follows an answer, so that it ends as a document does.
  std::vector<TextPiece> end_of_answer() const;
  // Names of the special tokens that end an answer.
  std::vector<std::string> stop_tokens() const;

 private:
  std::string name_;
};

}  // namespace polykv
