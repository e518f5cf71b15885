// Where the numbers of a packed matrix lie (docs/format.md): one layout for every instruction set.
// Rows go in groups of 16, one a lane; a group's blocks follow each other, and in a block 4 columns
// of each of the 16 rows are neighbours, for 4-byte dot products. Rows that fill up the last group
// are zero. Used where values are written and read one by one; kernels walk the same order in
// sequence.
#pragma once

#include <cstdint>

#include "model/image.h"

namespace polykv {

inline constexpr uint32_t kGroupRows = 16;

inline bool is_packed(const Weight& w) {
  return w.type == WeightType::w4 || w.type == WeightType::w8;
}
inline uint32_t row_groups(const Weight& w) { return (w.n_rows + kGroupRows - 1) / kGroupRows; }
inline uint32_t row_blocks(const Weight& w) { return w.n_cols / w.block; }

// Bytes of the codes, and number of f16, of one block of a group.
inline uint32_t group_block_bytes(const Weight& w) {
  return kGroupRows * w.block / (w.type == WeightType::w4 ? 2 : 1);
}
inline uint32_t group_block_scales(const Weight& w) { return kGroupRows * (1 + w.has_min); }

// Index of (row's group, block) in that sequence.
inline uint64_t group_block(const Weight& w, uint32_t row, uint32_t block) {
  return uint64_t{row / kGroupRows} * row_blocks(w) + block;
}

// Bytes from `values` to the first four columns of a row's block; the next four lie 64 bytes on. In
// w4 a byte holds column c in its low bits and column c + 16 in its high ones.
inline uint64_t code_offset(const Weight& w, uint32_t row, uint32_t block) {
  return group_block(w, row, block) * group_block_bytes(w) + row % kGroupRows * 4;
}

// Numbers from `scales` to a block's d; its m, if there is one, lies 16 on.
inline uint64_t scale_offset(const Weight& w, uint32_t row, uint32_t block) {
  return group_block(w, row, block) * group_block_scales(w) + row % kGroupRows;
}

// A code of w8 is stored with this added.
inline constexpr int kCodeZero = 128;

// The code of a column of a block: 0 to 15, or -128 to 127.
inline int code_at(const Weight& w, uint32_t row, uint32_t block, uint32_t col) {
  const auto* codes = reinterpret_cast<const uint8_t*>(w.values) + code_offset(w, row, block);
  if (w.type == WeightType::w8) return codes[col / 4 * 64 + col % 4] - kCodeZero;
  const uint32_t byte = codes[col % 16 / 4 * 64 + col % 4];
  return static_cast<int>(col < 16 ? byte & 15 : byte >> 4);
}

}  // namespace polykv
