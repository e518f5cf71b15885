// Matrix products in bfloat16 halves: x = hi + lo keeps 16 bits of every number, and hi * hi +
// hi * lo + lo * hi, summed in f32, all but about 2^-16 of a product. Three products where f32
// takes one, on units (AMX) several times as fast.
#pragma once

#include <cstddef>
#include <cstdint>

#include "model/threads.h"

namespace polykv {

// Whether this processor multiplies bfloat16 in tiles, and libtorch brings the product for it.
bool can_split();

// All below need can_split().

// x: [n] -> hi, lo: [n].
void split_avx512(const float* x, size_t n, uint16_t* hi, uint16_t* lo);

// x: [n_rows, n_cols] -> out: [n_rows, 2, n_cols], hi before lo.
void split_rows(ThreadTeam& team, const float* x, size_t n_rows, size_t n_cols, uint16_t* out);

// One head of many as an operand of attention, so that a bfloat16 product over three times the
// width is that of the halves. x: row r at x + r * stride, [n_rows, n_heads, head_dim] -> out:
// [n_rows, n_heads, 3, head_dim]: hi, hi, lo of queries; hi, lo, hi of keys and values.
struct SplitHeads {
  const float* x;
  size_t n_rows, n_heads, head_dim, stride;
  uint16_t* out;
};
void split_queries(ThreadTeam& team, const SplitHeads& heads);
void split_keys(ThreadTeam& team, const SplitHeads& heads);

// y = x * transposed w, by libtorch's threads.
struct SplitProduct {
  int n_rows, n_outputs, n_cols;
  const uint16_t* x;  // [n_rows, 2, n_cols]: hi, lo
  const uint16_t* w;  // [n_outputs, 2, n_cols]: lo, hi
  float* y;           // [n_rows, n_outputs]
};
void multiply_split(const SplitProduct& product);

}  // namespace polykv
