// One layer's attention of a prefill, by libtorch: causal, in some layers through a window.
#pragma once

#include <cstdint>

#include "model/threads.h"

namespace polykv {

// halves: of bfloat16 (model/prefill_split.h). tiles: our own in bfloat16, libtorch's where heads
// do not fit. All but f32 where can_split().
enum class AttentionPrecision { f32, halves, bfloat16, tiles };

struct PrefillAttention {
  ThreadTeam& team;
  AttentionPrecision precision;
  int64_t n, past;  // new tokens, and those before them
  int64_t n_kv_heads, group, head_dim;
  int64_t window;  // tokens that one sees, itself included; 0: all. What no one sees is not read
  float *k, *v;    // [past + n, n_kv_heads, head_dim], K at absolute positions; not changed
  float* rows;     // [n, n_kv_heads * group, head_dim]: queries, then what they attended to
};
// What libtorch throws passes through.
void prefill_attend(const PrefillAttention& layer);

}  // namespace polykv
