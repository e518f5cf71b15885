// Chat formats: how messages become text pieces. A pool's text ends at a special token (but for the
// format plain), so that tokenising its parts equals tokenising the whole.
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

struct ChatStyle;

// The token that a context begins with. Formats that write it themselves need its name; the others
// write it where the vocabulary says that every context begins so.
struct ContextStart {
  std::string bos;  // "" = none
  bool always = false;
};

class ChatFormat {
 public:
  // unsupported_model names the choices.
  static Result<ChatFormat> find(std::string_view name, ContextStart start = {});

  // The shared document as a message of its own. `first`: it opens the context; otherwise it
  // follows an earlier one. Where a format has no role for it, it is a user's, and a fixed short
  // answer follows.
  std::vector<TextPiece> document(std::string_view text, bool first,
                                  std::string_view role = "system") const;
  // A conversation after the documents, up to where the assistant's answer begins. What a format
  // has no role for stands before the user's next text.
  std::vector<TextPiece> conversation(std::span<const ChatTurn> all) const;
  // The same of one message of the user.
  std::vector<TextPiece> question(std::string_view text) const;
  // A conversation that opens a context, as the model's own template writes it.
  std::vector<TextPiece> opening(std::span<const ChatTurn> all) const;
  // What follows an answer, so that it ends as a document does.
  std::vector<TextPiece> end_of_answer() const;
  // Names of the special tokens that end an answer.
  std::vector<std::string> stop_tokens() const;
  // Names of the special tokens that messages cannot do without.
  std::vector<std::string> needed_tokens() const;

 private:
  using Pieces = std::vector<TextPiece>;
  struct Message {
    std::string_view role, before, content;
  };
  void put(const Message& message, bool first, Pieces& pieces) const;
  bool put_lead(std::string_view role, Pieces& pieces) const;
  Pieces turns(std::span<const ChatTurn> all, bool first) const;
  const ChatStyle* style_ = nullptr;
  ContextStart start_;
};

std::string chat_format_names();  // for messages

// The format that a template (Jinja, as model files have it) writes; nullopt: none that we know.
std::optional<std::string_view> recognise_chat_format(std::string_view chat_template);

}  // namespace polykv
