// What the vector kernels share: parts of the scratch, and scores as weights. Internal to reader/.
#pragma once

#include "reader/attend.h"

namespace polykv::avx2 {

// Floats from query to query: a split (with sinks in front) and a tile of room on both sides.
inline constexpr uint32_t kScoreStride = kSplitTokens + 3 * kTileRows;

// How many queries go together: a number as a type.
template <int N>
struct Batch {
  static constexpr int kQueries = N;
};

// Parts of the scratch, each on 64 bytes.
struct SplitScratch {
  float* scores;     // [n_queries, kScoreStride], row_begin at kTileRows
  float* tile;       // [kTileRows * head_dim], or points of codes in bytes or 16 bits
  uint8_t* codes;    // [kTileRows * head_dim + 64] of a short tile
  int8_t* q;         // [n_queries, 2 * head_dim]: quantised queries
  int8_t* weights;   // [n_queries, 2 * kTileRows]: quantised weights of a tile
  float* q_step;     // [n_queries]: q = step * integer
  float* p_step;     // [n_queries]: the same of the weights
  int32_t* q_start;  // [n_queries]: what unsigned points of K add, taken back
  // The tile to ask for while the present one is at work. nullptr: none.
  const uint8_t* ahead;
};
SplitScratch cut_scratch(const SplitCall& call);

// Scores of the call's rows, [n_queries, kScoreStride], become exp(score - max), with max and sum.
// Starts acc and acc_rotated: zero, but the mean of V counts once for each coded row.
void weigh(const SplitCall& call, float* scores);

// Starts acc and acc_rotated of a query: zero, but the mean of V counts `coded` times.
void start_values(const SplitCall& call, uint32_t query, float coded);

// x[i] *= factors[i]
void multiply(float* x, const float* factors, uint32_t n);

}  // namespace polykv::avx2
