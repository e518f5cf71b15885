// Text is cut before each space that follows something else, where no token of the vocabulary
// reaches over such a border: merging a whole text at once would take many times its size.
#include "model/tokenizer_spaces.h"

#include "model/pre_tokenizer.h"
#include "model/token_tables.h"

namespace polykv {
namespace {

// Bytes of the space that `text` begins with, 0 if it does not.
size_t space_bytes(std::string_view text) {
  if (text.starts_with(' ')) return 1;
  return text.starts_with(kSpaceMark) ? kSpaceMark.size() : 0;
}

bool joins_words(std::string_view token) {
  const size_t word = token.find_first_not_of(' ');
  return word != std::string_view::npos && token.find(' ', word) != std::string_view::npos;
}

bool any_joins_words(const TokenizerTables& tables) {
  for (uint32_t token = 0; token < tables.kinds.size(); ++token) {
    if (tables.kinds[token] == kKindNormal && joins_words(token_text(tables, token))) return true;
  }
  return false;
}

}  // namespace

std::string marks_to_spaces(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t mark = std::min(text.find(kSpaceMark, at), text.size());
    out += text.substr(at, mark - at);
    if (mark < text.size()) out += ' ';
    at = mark + kSpaceMark.size();
  }
  return out;
}

SpacedWords::SpacedWords(const TokenizerTables& tables)
    : flags_(tables.flags), words_apart_(!any_joins_words(tables)) {}

bool SpacedWords::has_prefix(std::string_view run, bool opens) const {
  if ((flags_ & kSpacePrefix) != 0) return true;
  return (flags_ & kSpaceFirst) != 0 && opens && space_bytes(run) == 0;
}

// A word with the spaces before it.
size_t SpacedWords::piece_bytes(std::string_view run) const {
  if (!words_apart_) return run.size();
  size_t at = 0;
  for (size_t n = space_bytes(run); n != 0; n = space_bytes(run.substr(at))) at += n;
  const size_t space = std::min(run.find(' ', at), run.find(kSpaceMark, at));
  return std::min(space, run.size());
}

void SpacedWords::encode(std::string_view run, bool opens, Bpe& bpe,
                         std::vector<uint32_t>& out) const {
  if (run.empty()) return;
  std::string piece(has_prefix(run, opens) ? " " : "");
  while (!run.empty()) {
    const size_t bytes = piece_bytes(run);
    piece += marks_to_spaces(run.substr(0, bytes));
    bpe.encode(piece, out);
    piece.clear();
    run.remove_prefix(bytes);
  }
}

std::string_view SpacedWords::without_prefix(std::string_view decoded, bool opens) const {
  const uint32_t wanted = opens ? kSpacePrefix | kSpaceFirst : kSpacePrefix;
  if ((flags_ & wanted) != 0 && decoded.starts_with(' ')) decoded.remove_prefix(1);
  return decoded;
}

}  // namespace polykv
