// ChatML: <|im_start|>role\ntext<|im_end|>, messages separated by a line break.
#include "model/chat.h"

namespace polykv {

Result<ChatFormat> ChatFormat::find(std::string_view name) {
  if (name != "chatml") {
    return fail(ErrorCode::unsupported_model,
                cat("unknown chat format \"", name, "\"; the choices are: chatml"),
                std::string(name), "chatml");
  }
  ChatFormat format;
  format.name_ = name;
  return format;
}

std::vector<TextPiece> ChatFormat::document(std::string_view text, bool first,
                                            std::string_view role) const {
  std::vector<TextPiece> pieces;
  if (!first) pieces.push_back({"\n"});
  pieces.push_back({"<|im_start|>", true});
  pieces.push_back({cat(role, '\n', text)});
  pieces.push_back({"<|im_end|>", true});
  return pieces;
}

std::vector<TextPiece> ChatFormat::conversation(std::span<const ChatTurn> turns) const {
  std::vector<TextPiece> pieces;
  for (const ChatTurn& turn : turns) {
    for (TextPiece& piece : document(turn.content, false, turn.role)) {
      pieces.push_back(std::move(piece));
    }
  }
  pieces.insert(pieces.end(), {{"\n"}, {"<|im_start|>", true}, {"assistant\n"}});
  return pieces;
}

std::vector<TextPiece> ChatFormat::question(std::string_view text) const {
  const ChatTurn turn{"user", std::string(text)};
  return conversation(std::span(&turn, 1));
}

std::vector<TextPiece> ChatFormat::end_of_answer() const { return {{"<|im_end|>", true}}; }

std::vector<std::string> ChatFormat::stop_tokens() const { return {"<|im_end|>", "<|endoftext|>"}; }

}  // namespace polykv
