// Threads share the tokens, not the outputs: a piece of rows goes through all products that follow
// one another while it is in the cache.
#include "model/prefill_packed.h"

#include <algorithm>

#include "model/weight_layout.h"

namespace polykv {
namespace {

uint32_t widest_operand(const ModelConfig& config) {
  return std::max({config.d_model, config.d_ff, config.n_heads * config.head_dim});
}

}  // namespace

PackedProducts::Scratch::Scratch(const ModelConfig& config)
    : integers(kRowsAtOnce, widest_operand(config)),
      gate(aligned_array<float>(size_t{kRowsAtOnce} * config.d_ff)),
      up(aligned_array<float>(size_t{kRowsAtOnce} * config.d_ff)),
      row(aligned_array<float>(matmul_scratch_floats(widest_operand(config)))) {}

PackedProducts::PackedProducts(const Kernels& set, ThreadTeam& team, const ModelConfig& config)
    : set_(set), team_(team), config_(config) {}

bool PackedLayers::takes_feed_forward(const LayerWeights& layer) {
  return is_packed(layer.w_gate) && is_packed(layer.w_up) && is_packed(layer.w_down);
}

std::unique_ptr<PackedProducts::Scratch> PackedProducts::take() {
  const std::lock_guard guard(lock_);
  if (idle_.empty()) return std::make_unique<Scratch>(config_);
  std::unique_ptr<Scratch> scratch = std::move(idle_.back());
  idle_.pop_back();
  return scratch;
}

void PackedProducts::give_back(std::unique_ptr<Scratch> scratch) {
  const std::lock_guard guard(lock_);
  idle_.push_back(std::move(scratch));
}

// Calls work(scratch, first, count) for pieces of at most kRowsAtOnce rows.
template <class Work>
void PackedProducts::over_rows(uint32_t n, const Work& work) {
  team_.run(n, kRowsAtOnce, [&](uint32_t begin, uint32_t end) {
    std::unique_ptr<Scratch> scratch = take();
    for (uint32_t first = begin; first < end; first += kRowsAtOnce) {
      work(*scratch, first, std::min(kRowsAtOnce, end - first));
    }
    give_back(std::move(scratch));
  });
}

Activations PackedProducts::operand(const Scratch& scratch, const float* x, uint32_t n,
                                    uint32_t n_cols) const {
  const Activations made = scratch.integers.of(x, n, n_cols);
  set_.quantise(made, 0, n);
  return made;
}

void PackedProducts::multiply_rows(const Scratch& scratch, const Activations& x, const Weight& w,
                                   float* y) const {
  set_.matmul(w, x, 0, w.n_rows, y, scratch.row.get());
}

void PackedProducts::multiply(const Weight& w, const float* x, uint32_t n, float* y) {
  over_rows(n, [&](const Scratch& scratch, uint32_t first, uint32_t count) {
    const Activations in = operand(scratch, x + size_t{first} * w.n_cols, count, w.n_cols);
    multiply_rows(scratch, in, w, y + size_t{first} * w.n_rows);
  });
}

void PackedProducts::feed_forward(const LayerWeights& layer, const float* x, uint32_t n, float* y) {
  const size_t width = config_.d_model;
  const GatedFn activate = config_.has(kGeglu) ? set_.geglu : set_.swiglu;
  over_rows(n, [&](const Scratch& scratch, uint32_t first, uint32_t count) {
    const Activations in = operand(scratch, x + first * width, count, config_.d_model);
    multiply_rows(scratch, in, layer.w_gate, scratch.gate.get());
    multiply_rows(scratch, in, layer.w_up, scratch.up.get());
    activate(scratch.gate.get(), scratch.up.get(), count * config_.d_ff);
    const Activations hidden = operand(scratch, scratch.gate.get(), count, config_.d_ff);
    multiply_rows(scratch, hidden, layer.w_down, y + first * width);
  });
}

}  // namespace polykv
