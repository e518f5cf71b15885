// Threads share blocks of 32 queries of a KV head, which read its keys and values from the cache.
#include "model/prefill_tiles_attend.h"

#include <algorithm>
#include <limits>

namespace polykv {
namespace {

using tiles::kKeys;
using tiles::kSide;

class LayerPass {
 public:
  explicit LayerPass(const PrefillAttention& layer);
  void run();

 private:
  uint32_t chunk_keys(uint32_t chunk) const { return std::min(kKeys, n_keys_ - chunk * kKeys); }
  uint16_t* keys(uint32_t head, uint32_t chunk) const;
  uint16_t* values(uint32_t head, uint32_t chunk) const;
  void round_chunk(uint32_t head, uint32_t chunk) const;
  tiles::QueryBlock block_at(uint32_t head, uint32_t first) const;
  void attend(uint32_t head, const tiles::QueryBlock& block, tiles::BlockState& state) const;

  const PrefillAttention& l_;
  uint32_t head_dim_, n_heads_, n_queries_, n_keys_, n_chunks_;  // queries: of a KV head
  std::unique_ptr<uint16_t[], FreeAligned> keys_;    // [n_heads, n_chunks, kKeys, head_dim]
  std::unique_ptr<uint16_t[], FreeAligned> values_;  // [n_heads, n_chunks, value_chunk(head_dim)]
};

LayerPass::LayerPass(const PrefillAttention& layer)
    : l_(layer),
      head_dim_(static_cast<uint32_t>(l_.head_dim)),
      n_heads_(static_cast<uint32_t>(l_.n_kv_heads)),
      n_queries_(static_cast<uint32_t>(l_.n * l_.group)),
      n_keys_(static_cast<uint32_t>(l_.past + l_.n)),
      n_chunks_((n_keys_ + kKeys - 1) / kKeys),
      keys_(aligned_array<uint16_t>(size_t{n_heads_} * n_chunks_ * kKeys * head_dim_)),
      values_(
          aligned_array<uint16_t>(size_t{n_heads_} * n_chunks_ * tiles::value_chunk(head_dim_))) {}

uint16_t* LayerPass::keys(uint32_t head, uint32_t chunk) const {
  return keys_.get() + (size_t{head} * n_chunks_ + chunk) * kKeys * head_dim_;
}

uint16_t* LayerPass::values(uint32_t head, uint32_t chunk) const {
  return values_.get() + (size_t{head} * n_chunks_ + chunk) * tiles::value_chunk(head_dim_);
}

void LayerPass::round_chunk(uint32_t head, uint32_t chunk) const {
  const size_t stride = size_t{n_heads_} * head_dim_;
  const size_t at = size_t{chunk} * kKeys * stride + size_t{head} * head_dim_;
  const uint32_t there = chunk_keys(chunk), n = tiles::whole_steps(there);
  tiles::round_keys(l_.k + at, stride, there, n, head_dim_, keys(head, chunk));
  tiles::turn_values(l_.v + at, stride, there, n, head_dim_, values(head, chunk));
}

tiles::QueryBlock LayerPass::block_at(uint32_t head, uint32_t first) const {
  const auto group = static_cast<uint32_t>(l_.group);
  const bool all = l_.window == 0;
  tiles::QueryBlock block{};
  block.head_dim = head_dim_;
  block.n = std::min(kSide, n_queries_ - first);
  block.window = all ? std::numeric_limits<int32_t>::max() : static_cast<int32_t>(l_.window);
  for (uint32_t i = 0; i < kSide; ++i) {
    const uint32_t query = first + std::min(i, block.n - 1), token = query / group;
    const size_t row = (size_t{token} * n_heads_ + head) * group + query % group;
    block.rows[i] = l_.rows + row * head_dim_;
    block.behind[i] = static_cast<int32_t>(l_.past + token + 1);
  }
  block.end_key = static_cast<uint32_t>(block.behind[kSide - 1]);
  block.first_key = static_cast<uint32_t>(std::max(block.behind[0] - block.window, 0));
  return block;
}

// Chunks begin at multiples of kKeys, wherever the block's keys begin.
void LayerPass::attend(uint32_t head, const tiles::QueryBlock& block,
                       tiles::BlockState& state) const {
  tiles::begin_block(block, state);
  bool adds = false;
  for (uint32_t chunk = block.first_key / kKeys; chunk * kKeys < block.end_key; ++chunk) {
    const uint32_t first = chunk * kKeys;
    const uint32_t n = tiles::whole_steps(std::min(kKeys, block.end_key - first));
    tiles::multiply({.x = keys(head, chunk),
                     .stride = head_dim_,
                     .n = n,
                     .strip = state.queries,
                     .parts = 1,
                     .n_steps = head_dim_ / kSide,
                     .adds = false,
                     .sums = state.scores[0]});
    tiles::weigh(block, first, n, state);
    tiles::multiply({.x = values(head, chunk),
                     .stride = tiles::kValueStride,
                     .n = head_dim_,
                     .strip = state.weights,
                     .parts = 1,
                     .n_steps = n / kSide,
                     .adds = adds,
                     .sums = state.sums[0]});
    adds = true;
  }
  tiles::end_block(block, state);
}

void LayerPass::run() {
  constexpr uint32_t kBlocksAtOnce = 8;
  const auto n_seen = static_cast<uint32_t>(l_.window == 0 ? n_keys_ : l_.n + l_.window - 1);
  const uint32_t first = n_seen < n_keys_ ? (n_keys_ - n_seen) / kKeys : 0;
  const uint32_t n_read = n_chunks_ - first;
  l_.team.run(n_heads_ * n_read, 1, [&](uint32_t begin, uint32_t end) {
    for (uint32_t i = begin; i < end; ++i) round_chunk(i / n_read, first + i % n_read);
  });
  const uint32_t n_blocks = (n_queries_ + kSide - 1) / kSide;
  l_.team.run(n_heads_ * n_blocks, kBlocksAtOnce, [&](uint32_t begin, uint32_t end) {
    const auto state = std::make_unique<tiles::BlockState>();
    const amx::TilesInUse in_use{tiles::shapes()};
    for (uint32_t i = begin; i < end; ++i) {
      const uint32_t head = i / n_blocks;
      attend(head, block_at(head, i % n_blocks * kSide), *state);
    }
  });
}

}  // namespace

void attend_tiles(const PrefillAttention& layer) { LayerPass(layer).run(); }

}  // namespace polykv
