// One layer's attention of a prefill in bfloat16 on AMX tiles: scores and weights stand with keys
// down and queries across, so that softmax works lane by lane and weights go into the second
// product as they are made.
#pragma once

#include "model/prefill_attend.h"
#include "model/prefill_tiles.h"

namespace polykv {

// Heads that attend_tiles() takes, where can_split().
constexpr bool fits_tiles(int64_t head_dim) { return head_dim % 32 == 0 && head_dim <= 256; }

// As prefill_attend(). A row's result is bitwise independent of the number of rows and threads.
void attend_tiles(const PrefillAttention& layer);

// What it is made of, for one thread.
namespace tiles {

inline constexpr uint32_t kKeys = 256;                   // at a time
inline constexpr uint32_t kValueStride = kKeys + kSide;  // of numbers, from dimension to next
constexpr size_t value_chunk(uint32_t head_dim) { return size_t{head_dim} * kValueStride; }

// 32 queries of one KV head: rows of its group, token after token.
struct QueryBlock {
  uint32_t head_dim;
  uint32_t first_key, end_key;  // those that any of them sees
  uint32_t n;                   // queries; the others of the 32 are like the last
  int32_t behind[kSide];        // one past the last key that a query sees
  int32_t window;               // keys that it sees at most
  float* rows[kSide];           // [head_dim]: a query, then what it attended to
};
// What a block is computed in.
struct BlockState {
  alignas(64) uint16_t queries[256 / kSide * 2 * kTile];
  alignas(64) float scores[kKeys][kSide];
  alignas(64) uint16_t weights[kKeys / kSide * 2 * kTile];
  alignas(64) float sums[256][kSide];  // dimensions down
  alignas(64) float largest[kSide], total[kSide];
};

// Keys or values of one head, rows `stride` apart, n of them, a multiple of 32 of which `there` are
// and the others count as 0. keys: [n, head_dim]; values: [head_dim, kValueStride].
void round_keys(const float* k, size_t stride, uint32_t there, uint32_t n, uint32_t head_dim,
                uint16_t* keys);
void turn_values(const float* v, size_t stride, uint32_t there, uint32_t n, uint32_t head_dim,
                 uint16_t* values);
void begin_block(const QueryBlock& block, BlockState& state);
// scores of keys [first, first + n) -> weights; sums and total as far as they go are scaled to the
// new largest score.
void weigh(const QueryBlock& block, uint32_t first, uint32_t n, BlockState& state);
void end_block(const QueryBlock& block, const BlockState& state);

}  // namespace tiles
}  // namespace polykv
