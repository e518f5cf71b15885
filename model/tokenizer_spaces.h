// SentencePiece's view of spaces: each belongs to the word behind it, and one is put before the
// text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/image.h"
#include "model/tokenizer_bpe.h"

namespace polykv {

// U+2581 stands for a space in SentencePiece's vocabularies, and so it does in texts.
inline constexpr std::string_view kSpaceMark = "\u2581";
std::string marks_to_spaces(std::string_view text);

class SpacedWords {
 public:
  explicit SpacedWords(const TokenizerTables& tables);
  // Appends the tokens of a run of plain text. `opens`: it is the beginning of the context.
  void encode(std::string_view run, bool opens, Bpe& bpe, std::vector<uint32_t>& out) const;
  // What a run of text begins with, without the space that encoding puts before the run.
  std::string_view without_prefix(std::string_view decoded, bool opens) const;

 private:
  bool has_prefix(std::string_view run, bool opens) const;
  size_t piece_bytes(std::string_view run) const;

  uint32_t flags_;
  bool words_apart_;  // no token reaches over the border of two words
};

}  // namespace polykv
