// What some families do to q, k and v between their projections and RoPE: biases, norms of heads, a
// factor of q.
#pragma once

#include "model/image.h"

namespace polykv {

// q: [n, n_heads, head_dim], k and v: [n, n_kv_heads, head_dim]; nullptr: not now.
struct HeadRows {
  uint32_t n;
  float *q, *k, *v;
};
// Each row by itself. Nothing to do in families without any.
void finish_heads(const ModelConfig& config, const LayerWeights& layer, const HeadRows& rows);

}  // namespace polykv
