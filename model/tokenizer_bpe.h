// Byte pair encoding of one piece: the pair of lowest rank merges first, the leftmost of equals.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "model/image.h"

namespace polykv {

class Bpe {
 public:
  explicit Bpe(const TokenizerTables& tables);
  // Appends the piece's tokens. Takes n log n time. Byte-level: a byte without a token is left out,
  // as the reference does. SentencePiece: `piece` must be valid UTF-8.
  void encode(std::string_view piece, std::vector<uint32_t>& out);

 private:
  // A doubly linked list in an array: a merge unlinks its right half.
  struct Symbol {
    uint32_t token;  // kNoToken = merged away
    uint32_t before, after;
  };
  struct Candidate {
    uint32_t rank, at, left, right;
  };
  void start_with_bytes(std::string_view piece);
  void start_with_characters(std::string_view piece);
  void add_symbol(uint32_t token);
  void offer(uint32_t at);
  void merge(const Candidate& candidate);
  void merge_all();

  const TokenizerTables& tables_;
  std::array<uint32_t, 256> byte_tokens_;
  std::vector<Symbol> symbols_;        // reused
  std::vector<Candidate> candidates_;  // a heap, reused
};

}  // namespace polykv
