// Chunks of queries against the keys that any of them sees: a mask of queries times window, never
// of text times text.
#include "model/prefill_attend.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <optional>

#include "model/prefill_split.h"
#include "model/prefill_tiles_attend.h"

namespace polykv {
namespace {

constexpr int64_t kQueryChunk = 512;  // queries per masked attention: bounds the mask
constexpr uint32_t kRowGrain = 64;

uint16_t* bits(const at::Tensor& t) { return static_cast<uint16_t*>(t.mutable_data_ptr()); }
float widened(uint16_t x) { return std::bit_cast<float>(uint32_t{x} << 16); }

// New tokens [begin, end) and the keys of [first, past + end).
struct Chunk {
  int64_t begin, end, first;
};

class LayerPass {
 public:
  explicit LayerPass(const PrefillAttention& layer) : l_(layer) {}
  void run();

 private:
  at::ScalarType type() const {
    return l_.precision == AttentionPrecision::f32 ? at::kFloat : at::kBFloat16;
  }
  bool whole() const { return l_.past == 0 && (l_.window == 0 || l_.n <= l_.window); }
  int64_t n_keys(const Chunk& c) const { return l_.past + c.end - c.first; }
  at::Tensor mask(const Chunk& c) const;
  at::Tensor shared(float* all, const Chunk& c) const;
  void attend(const Chunk& c) const;
  void attend_split(const Chunk& c) const;
  at::Tensor split_head(const float* all, int64_t head, const Chunk& c) const;
  void join(const at::Tensor& out, float* rows) const;

  const PrefillAttention& l_;
};

// [end - begin, keys]: 0 where the query may look, -infinity where it may not.
at::Tensor LayerPass::mask(const Chunk& c) const {
  const int64_t width = n_keys(c);
  at::Tensor out = at::empty({c.end - c.begin, width}, at::kFloat);
  float* row = out.mutable_data_ptr<float>();
  for (int64_t i = c.begin; i < c.end; ++i, row += width) {
    const int64_t behind = l_.past + i + 1 - c.first;  // one past the query's own key
    const int64_t seen = l_.window == 0 ? behind : std::min(behind, l_.window);
    std::fill(row, row + width, -std::numeric_limits<float>::infinity());
    std::fill(row + behind - seen, row + behind, 0.0f);
  }
  return out;
}

// Keys or values as one batch per KV head, the same for each query head of its group.
at::Tensor LayerPass::shared(float* all, const Chunk& c) const {
  return at::from_blob(all, {l_.past + l_.n, l_.n_kv_heads, l_.head_dim}, at::kFloat)
      .narrow(0, c.first, n_keys(c))
      .to(type())
      .permute({1, 0, 2})
      .unsqueeze(1)
      .expand({l_.n_kv_heads, l_.group, n_keys(c), l_.head_dim});
}

// One KV head is one batch, its queries the heads of that batch: K and V are never copied per query
// head.
void LayerPass::attend(const Chunk& c) const {
  const int64_t n = c.end - c.begin, width = l_.n_kv_heads * l_.group * l_.head_dim;
  const at::Tensor rows = at::from_blob(l_.rows + c.begin * width,
                                        {n, l_.n_kv_heads, l_.group, l_.head_dim}, at::kFloat);
  const std::optional<at::Tensor> seen = whole() ? std::nullopt : std::optional(mask(c).to(type()));
  const at::Tensor out = at::scaled_dot_product_attention(
      rows.to(type()).permute({1, 2, 0, 3}), shared(l_.k, c), shared(l_.v, c), seen, 0.0, whole());
  rows.copy_(out.permute({2, 0, 1, 3}));
}

// Keys or values of one head for all queries of its group: [1, group, keys, 3 head_dim].
at::Tensor LayerPass::split_head(const float* all, int64_t head, const Chunk& c) const {
  at::Tensor out = at::empty({n_keys(c), 3 * l_.head_dim}, at::kBFloat16);
  const int64_t stride = l_.n_kv_heads * l_.head_dim;
  split_keys(l_.team,
             {all + c.first * stride + head * l_.head_dim, static_cast<size_t>(n_keys(c)), 1,
              static_cast<size_t>(l_.head_dim), static_cast<size_t>(stride), bits(out)});
  return out.expand({1, l_.group, n_keys(c), 3 * l_.head_dim});
}

// The sums with values' hi and lo, added: [1, group, n, 3 head_dim] to [n, group, head_dim] of all
// heads' rows.
void LayerPass::join(const at::Tensor& out, float* rows) const {
  const uint16_t* from = bits(out);
  const int64_t d = l_.head_dim;
  l_.team.run(static_cast<uint32_t>(out.size(2)), kRowGrain, [&](uint32_t begin, uint32_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t g = 0; g < l_.group; ++g) {
        const uint16_t* sums = from + i * out.stride(2) + g * out.stride(1);
        float* row = rows + (i * l_.n_kv_heads * l_.group + g) * d;
        for (int64_t x = 0; x < d; ++x) row[x] = widened(sums[x]) + widened(sums[d + x]);
      }
    }
  });
}

// One KV head after the other, so that one at a time is there in halves.
void LayerPass::attend_split(const Chunk& c) const {
  const int64_t n = c.end - c.begin, width = l_.n_kv_heads * l_.group * l_.head_dim;
  const double scale = 1 / std::sqrt(static_cast<double>(l_.head_dim));
  const std::optional<at::Tensor> seen =
      whole() ? std::nullopt : std::optional(mask(c).to(at::kBFloat16));
  const at::Tensor q = at::empty({n, l_.group, 3 * l_.head_dim}, at::kBFloat16);
  for (int64_t head = 0; head < l_.n_kv_heads; ++head) {
    float* rows = l_.rows + c.begin * width + head * l_.group * l_.head_dim;
    split_queries(l_.team, {rows, static_cast<size_t>(n), static_cast<size_t>(l_.group),
                            static_cast<size_t>(l_.head_dim), static_cast<size_t>(width), bits(q)});
    join(at::scaled_dot_product_attention(q.permute({1, 0, 2}).unsqueeze(0),
                                          split_head(l_.k, head, c), split_head(l_.v, head, c),
                                          seen, 0.0, whole(), scale),
         rows);
  }
}

void LayerPass::run() {
  const int64_t chunk = whole() ? l_.n : kQueryChunk;
  for (int64_t begin = 0; begin < l_.n; begin += chunk) {
    const int64_t before = l_.window == 0 ? 0 : l_.past + begin + 1 - l_.window;
    const Chunk c{begin, std::min(l_.n, begin + chunk), std::max<int64_t>(before, 0)};
    if (l_.precision == AttentionPrecision::halves) {
      attend_split(c);
    } else {
      attend(c);
    }
  }
}

}  // namespace

void prefill_attend(const PrefillAttention& layer) {
#ifdef __x86_64__
  const bool own = layer.precision == AttentionPrecision::tiles;
  if (own && fits_tiles(layer.head_dim)) return attend_tiles(layer);
#endif
  LayerPass(layer).run();
}

}  // namespace polykv
