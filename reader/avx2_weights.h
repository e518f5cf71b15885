// What the vector kernels share: scores as weights. Internal to reader/.
#pragma once

#include "reader/attend.h"

namespace polykv::avx2 {

inline constexpr uint32_t kScoreStride =
    kSplitTokens + 2 * kTileRows;  // floats from query to query

// Scores of the call's rows, [n_queries, kScoreStride], become exp(score - max), with max and sum.
// Starts acc and acc_rotated: zero, but the mean of V counts once for each coded row.
void weigh(const SplitCall& call, float* scores);

// x[i] *= factors[i]
void multiply(float* x, const float* factors, uint32_t n);

}  // namespace polykv::avx2
