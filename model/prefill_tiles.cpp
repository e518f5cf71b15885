// Threads share the tokens, not the outputs: a piece of rows goes through all products that follow
// one another while it is in the cache.
#include "model/prefill_tiles.h"

#include <algorithm>

#include "model/weight_layout.h"

namespace polykv {

using tiles::kSide;
using tiles::row_stride;
using tiles::whole_steps;

struct TileProducts::Group {
  const Weight& w;
  uint32_t index;
};

TileProducts::Scratch::Scratch(const ModelConfig& c)
    : rows(aligned_array<uint16_t>(kRowsAtOnce *
                                   row_stride(std::max(c.d_model, c.n_heads * c.head_dim)))),
      hidden(aligned_array<uint16_t>(kRowsAtOnce * row_stride(c.d_ff))),
      strip(aligned_array<uint16_t>(tiles::kWeightStep * tiles::kStripCols / kSide)),
      sums(aligned_array<float>(size_t{kRowsAtOnce} * 32)) {
  // Past the last outputs it stays zero: a step may be wider than they are.
  std::fill_n(hidden.get(), kRowsAtOnce * row_stride(c.d_ff), uint16_t{0});
}

TileProducts::TileProducts(ThreadTeam& team, const ModelConfig& config)
    : team_(team), config_(config) {}

std::unique_ptr<TileProducts::Scratch> TileProducts::take() {
  const std::lock_guard guard(lock_);
  if (idle_.empty()) return std::make_unique<Scratch>(config_);
  std::unique_ptr<Scratch> scratch = std::move(idle_.back());
  idle_.pop_back();
  return scratch;
}

void TileProducts::give_back(std::unique_ptr<Scratch> scratch) {
  const std::lock_guard guard(lock_);
  idle_.push_back(std::move(scratch));
}

// Calls work(scratch, first, count) for pieces of rows: as many as there are threads, or of
// kRowsAtOnce.
template <class Work>
void TileProducts::over_rows(uint32_t n, const Work& work) {
  const uint32_t share = whole_steps((n + team_.size() - 1) / team_.size());
  const uint32_t piece = std::min(share, kRowsAtOnce);
  team_.run(n, piece, [&](uint32_t begin, uint32_t end) {
    std::unique_ptr<Scratch> scratch = take();
    const amx::TilesInUse in_use{tiles::shapes()};
    for (uint32_t first = begin; first < end; first += piece) {
      work(*scratch, first, std::min(piece, end - first));
    }
    give_back(std::move(scratch));
  });
}

// scratch.sums = x times the outputs of two groups.
void TileProducts::sum(const Scratch& scratch, const Group& first, const Group& second,
                       const uint16_t* x, uint32_t n) {
  const uint32_t n_cols = first.w.n_cols;
  for (uint32_t begin = 0; begin < n_cols; begin += tiles::kStripCols) {
    const uint32_t end = std::min(n_cols, begin + tiles::kStripCols);
    tiles::unpack(first.w, first.index, begin, end, scratch.strip.get());
    tiles::unpack(second.w, second.index, begin, end, scratch.strip.get() + tiles::kTile);
    tiles::multiply({.x = x + begin,
                     .stride = row_stride(n_cols),
                     .n = whole_steps(n),
                     .strip = scratch.strip.get(),
                     .parts = 2,
                     .n_steps = whole_steps(end - begin) / kSide,
                     .adds = begin > 0,
                     .sums = scratch.sums.get()});
  }
}

void TileProducts::outputs(const Scratch& scratch, const Weight& w, const uint16_t* x, uint32_t n,
                           float* y) {
  const uint32_t n_groups = row_groups(w);
  for (uint32_t g = 0; g < n_groups; g += 2) {
    sum(scratch, {w, g}, {w, std::min(g + 1, n_groups - 1)}, x, n);
    const uint32_t row = g * kGroupRows;
    tiles::store_outputs(scratch.sums.get(), n, std::min(w.n_rows - row, 32u), y + row, w.n_rows);
  }
}

void TileProducts::multiply(const Weight& w, const float* x, uint32_t n, float* y) {
  over_rows(n, [&](const Scratch& scratch, uint32_t first, uint32_t count) {
    tiles::round_rows(x + size_t{first} * w.n_cols, count, w.n_cols, scratch.rows.get());
    outputs(scratch, w, scratch.rows.get(), count, y + size_t{first} * w.n_rows);
  });
}

void TileProducts::feed_forward(const LayerWeights& layer, const float* x, uint32_t n, float* y) {
  const size_t width = config_.d_model, stride = row_stride(config_.d_ff);
  over_rows(n, [&](const Scratch& scratch, uint32_t first, uint32_t count) {
    tiles::round_rows(x + first * width, count, config_.d_model, scratch.rows.get());
    for (uint32_t g = 0; g < row_groups(layer.w_gate); ++g) {
      sum(scratch, {layer.w_gate, g}, {layer.w_up, g}, scratch.rows.get(), count);
      tiles::store_gated(scratch.sums.get(), whole_steps(count), config_.has(kGeglu),
                         scratch.hidden.get() + size_t{g} * kGroupRows, stride);
    }
    outputs(scratch, layer.w_down, scratch.hidden.get(), count, y + first * width);
  });
}

}  // namespace polykv
