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
  // Appends the piece's tokens. Takes n log n time. A byte without a token is left out, as the
  // reference does.
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
  void offer(uint32_t at);
  void merge(const Candidate& candidate);

  const TokenizerTables& tables_;
  std::array<uint32_t, 256> byte_tokens_;
  std::vector<Symbol> symbols_;        // reused
  std::vector<Candidate> candidates_;  // a heap, reused
};

}  // namespace polykv
