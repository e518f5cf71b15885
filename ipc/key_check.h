// The safety net for K: what encoding does to attention scores, and when a plane is given more
// bits.
//
// Some models have keys with large biases, or outliers, that RoPE turns from row to row: no mean
// takes them away, and a code whose steps follow the rows' size then costs scores what the model
// tells tokens apart by. So whoever encodes holds scores of the model's own queries on exact and on
// encoded keys against each other, plane by plane.
#pragma once

#include <span>

#include "ipc/plane.h"

namespace polykv {

// Queries of some of a segment's tokens, after RoPE at the positions that its K has, unscaled.
struct QuerySample {
  std::span<const uint32_t> tokens;  // ascending, within the segment
  const float* q = nullptr;          // [tokens.size(), n_heads, head_dim]
  uint32_t n_heads = 0;              // a multiple of the KV heads
};

// One encoded K plane beside the rows that it was made of.
struct KeyCheck {
  const PlaneView& plane;
  LayerRows exact;           // the plane's rows, of all heads
  uint32_t head = 0;         // KV head
  uint32_t first_token = 0;  // of the segment: row 0
};

// Root mean square of q . (encoded k - exact k) / sqrt(head_dim), over queries of the head's group
// and up to kCheckedKeys coded rows that they see: how far scores move, in units of the softmax's
// exponent. 0 where no query sees a coded row. The same, whoever computes it.
inline constexpr uint32_t kCheckedKeys = 256;
double score_error(const KeyCheck& check, const QuerySample& queries);

// What scores may be moved by in a pool whose K is coded so; infinity where nothing is checked
// (f32, f16, paper).
double score_error_bound(PlaneCodec asked);
// The next codec up: 2, 3, 4, 5, 6, 8 bits, then f16, which stays.
PlaneCodec wider(PlaneCodec codec);
int width_of(PlaneCodec codec);  // bits of an element, scales aside

}  // namespace polykv
