// Look-ups in the image's flat tokenizer tables: open addressing, linear probing, searched in
// place.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "model/image.h"

namespace polykv {

inline constexpr uint8_t kKindNormal = 1;  // stored: never renumber
inline constexpr uint8_t kKindSpecial = 3;
inline constexpr uint8_t kKindUser = 4;
inline constexpr uint8_t kKindByte = 6;  // SentencePiece: stands for a byte of an unknown character

// Tokens of different classes may have the same bytes; a search asks for one class.
enum class TokenClass { plain, special, byte };
inline TokenClass class_of(uint8_t kind) {
  if (kind == kKindSpecial) return TokenClass::special;
  return kind == kKindByte ? TokenClass::byte : TokenClass::plain;
}

// Where the search for a text begins; `n_slots` is a power of two.
size_t text_slot(std::string_view text, size_t n_slots);

// Where the search for a pair begins (the finaliser of splitmix64).
inline size_t merge_slot(uint32_t left, uint32_t right, size_t n_slots) {
  uint64_t x = (static_cast<uint64_t>(left) << 32) | right;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return (x ^ (x >> 31)) & (n_slots - 1);
}

// Smallest power of two that keeps the table at most half full: short probes, always an empty slot.
inline size_t slots_for(size_t n_entries) {
  size_t n = 16;
  while (n < 2 * n_entries) n *= 2;
  return n;
}

inline std::string_view token_text(const TokenizerTables& tables, uint32_t token) {
  const uint32_t begin = tables.text_offsets[token];
  return tables.texts.substr(begin, tables.text_offsets[token + 1] - begin);
}

// The token of this class with these bytes; a special token's are its name.
std::optional<uint32_t> find_token(const TokenizerTables& tables, std::string_view text,
                                   TokenClass wanted);

struct Merge {
  uint32_t rank;
  uint32_t result;
};
std::optional<Merge> find_merge(const TokenizerTables& tables, uint32_t left, uint32_t right);

}  // namespace polykv
