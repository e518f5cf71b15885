// Known vectors: what the tiles make of them against plain loops in double precision.
#include "model/prefill_tiles_check.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "model/kernels.h"
#include "model/prefill_tiles.h"
#include "model/prefill_tiles_attend.h"
#include "model/weight_layout.h"

namespace polykv {
namespace {

// The same numbers everywhere.
class TestNumbers {
 public:
  explicit TestNumbers(uint32_t seed) : state_(seed) {}
  uint32_t byte() { return (state_ = state_ * 1664525u + 1013904223u) >> 24; }
  float number() { return static_cast<float>(byte()) / 128 - 1; }  // [-1, 1), exact in bfloat16

 private:
  uint32_t state_;
};

struct TestForm {
  WeightType type;
  uint32_t n_rows, n_cols, block, has_min;
  uint16_t step;  // f16, between codes
};
// With the second a weight takes more bits than bfloat16 has, and its sum of two still holds it.
constexpr uint16_t kSixteenth = 0x2c00, kMoreThanOne = 0x3c20;
constexpr uint16_t minus_eight(uint16_t f16) { return static_cast<uint16_t>(f16 + 0x8c00); }

// Any byte is a code; scales of one value make all weights exact.
class TestWeight {
 public:
  explicit TestWeight(const TestForm& form)
      : weight_{.type = form.type,
                .n_rows = form.n_rows,
                .n_cols = form.n_cols,
                .block = form.block,
                .has_min = form.has_min} {
    const size_t n_blocks = size_t{row_groups(weight_)} * row_blocks(weight_);
    values_.resize(n_blocks * group_block_bytes(weight_));
    TestNumbers numbers(form.n_cols);
    for (std::byte& value : values_) value = static_cast<std::byte>(numbers.byte());
    for (size_t i = 0; i < n_blocks * group_block_scales(weight_); ++i) {
      const bool is_min = form.has_min == 1 && i / kGroupRows % 2 == 1;
      scales_.push_back(is_min ? minus_eight(form.step) : form.step);
    }
    weight_.values = values_.data();
    weight_.scales = scales_.data();
  }
  const Weight& weight() const { return weight_; }
  std::vector<float> rows() const {
    std::vector<float> all(size_t{weight_.n_rows} * weight_.n_cols);
    for (uint32_t r = 0; r < weight_.n_rows; ++r) {
      dequantise_row(weight_, r, &all[size_t{r} * weight_.n_cols]);
    }
    return all;
  }

 private:
  Weight weight_;
  std::vector<std::byte> values_;
  std::vector<uint16_t> scales_;
};

double dot(const float* a, const float* b, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += double{a[i]} * b[i];
  return sum;
}

// More rows than a step has, of which the first ones come again.
constexpr uint32_t kInputs = 35, kOwn = 2;

bool multiplies(const TileKernels& tiles, const TestForm& form) {
  const TestWeight made(form);
  const Weight& w = made.weight();
  TestNumbers numbers(1);
  std::vector<float> x(size_t{kInputs} * w.n_cols);
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t own = size_t{kOwn} * w.n_cols;
    x[i] = i < own ? static_cast<float>(numbers.byte() % 17) - 8 : x[i - own];
  }
  std::vector<float> y(size_t{kInputs} * w.n_rows), wanted(size_t{kOwn} * w.n_rows);
  tiles.multiply(w, x.data(), kInputs, y.data());
  const std::vector<float> rows = made.rows();
  for (size_t i = 0; i < wanted.size(); ++i) {
    const double sum = dot(&rows[i % w.n_rows * w.n_cols], &x[i / w.n_rows * w.n_cols], w.n_cols);
    wanted[i] = static_cast<float>(sum);
  }
  bool same = true;
  for (size_t i = 0; i < y.size(); ++i) same = same && y[i] == wanted[i % wanted.size()];
  return same;
}

double activated(bool gelu, double gate) {
  if (!gelu) return gate / (1 + std::exp(-gate));
  const double u = 1.5957691216057308 * (gate + 0.044715 * gate * gate * gate);
  return gate / (1 + std::exp(-u));
}

// Rounding of what is between gate and down: 2^-9 of a number each, relative to the sum of
// magnitudes.
bool feeds_forward(const TileKernels& tiles, bool gelu) {
  constexpr uint32_t kWidth = 64, kHidden = 48, kRows = 3;
  const TestWeight gate({WeightType::w4, kHidden, kWidth, 32, 1, kSixteenth});
  const TestWeight up({WeightType::w8, kHidden, kWidth, 32, 0, kSixteenth});
  const TestWeight down({WeightType::w8, kWidth, kHidden, 16, 0, kSixteenth});
  const auto g = gate.rows(), u = up.rows(), d = down.rows();
  ModelConfig config;
  config.d_model = kWidth, config.d_ff = kHidden, config.n_heads = 1, config.head_dim = kWidth;
  if (gelu) config.features |= kGeglu;
  LayerWeights layer{};
  layer.w_gate = gate.weight(), layer.w_up = up.weight(), layer.w_down = down.weight();
  TestNumbers numbers(2);
  std::vector<float> x(size_t{kRows} * kWidth), y(x.size());
  for (float& one : x) one = numbers.number() / 2;
  tiles.feed_forward(config, layer, x.data(), kRows, y.data());
  bool near = true;
  for (uint32_t m = 0; m < kRows; ++m) {
    const float* row = &x[size_t{m} * kWidth];
    std::array<double, kHidden> hidden;
    for (uint32_t i = 0; i < kHidden; ++i) {
      const double in = dot(&g[size_t{i} * kWidth], row, kWidth);
      hidden[i] = activated(gelu, in) * dot(&u[size_t{i} * kWidth], row, kWidth);
    }
    for (uint32_t i = 0; i < kWidth; ++i) {
      double sum = 0, magnitude = 0;
      for (uint32_t h = 0; h < kHidden; ++h) {
        sum += d[size_t{i} * kHidden + h] * hidden[h];
        magnitude += std::abs(d[size_t{i} * kHidden + h] * hidden[h]);
      }
      near = near && std::abs(y[size_t{m} * kWidth + i] - sum) <= magnitude / 128;
    }
  }
  return near;
}

struct TestAttention {
  static constexpr int64_t kNew = 18, kPast = 20, kGroup = 2, kDim = 32;
  int64_t window;
  std::vector<float> k, v, rows;

  explicit TestAttention(int64_t tokens_seen)
      : window(tokens_seen), k((kPast + kNew) * kDim), v(k.size()), rows(kNew * kGroup * kDim) {
    TestNumbers numbers(3);
    for (auto* all : {&k, &v, &rows}) {
      for (float& x : *all) x = numbers.number();
    }
  }
  // What the query of a row attends to.
  std::array<double, kDim> textbook(int64_t row) const {
    const int64_t end = kPast + row / kGroup + 1;
    const int64_t begin = window == 0 ? 0 : std::max<int64_t>(0, end - window);
    std::array<double, kDim> out{};
    double total = 0;
    for (int64_t t = begin; t < end; ++t) {
      const double p = std::exp(dot(&rows[row * kDim], &k[t * kDim], kDim) / std::sqrt(kDim));
      total += p;
      for (int64_t i = 0; i < kDim; ++i) out[i] += p * v[t * kDim + i];
    }
    for (double& x : out) x /= total;
    return out;
  }
};

// Weights and values of [-1, 1) are rounded to 2^-9 of themselves; a wrong key, lane or sign is off
// by more.
bool attends(const TileKernels& tiles, int64_t window) {
  using Test = TestAttention;
  const Test wanted(window);
  Test made(window);
  ThreadTeam team(1);
  tiles.attend({.team = team,
                .precision = AttentionPrecision::tiles,
                .n = Test::kNew,
                .past = Test::kPast,
                .n_kv_heads = 1,
                .group = Test::kGroup,
                .head_dim = Test::kDim,
                .window = window,
                .k = made.k.data(),
                .v = made.v.data(),
                .rows = made.rows.data()});
  bool near = true;
  for (int64_t row = 0; row < Test::kNew * Test::kGroup; ++row) {
    const auto out = wanted.textbook(row);
    for (int64_t i = 0; i < Test::kDim; ++i) {
      near = near && std::abs(made.rows[row * Test::kDim + i] - out[i]) < 0.01;
    }
  }
  return near;
}

void multiply_alone(const Weight& w, const float* x, uint32_t n, float* y) {
  ThreadTeam alone(1);
  ModelConfig config;
  config.d_model = w.n_cols, config.n_heads = 1, config.head_dim = w.n_cols;
  TileProducts(alone, config).multiply(w, x, n, y);
}

void feed_forward_alone(const ModelConfig& config, const LayerWeights& layer, const float* x,
                        uint32_t n, float* y) {
  ThreadTeam alone(1);
  TileProducts(alone, config).feed_forward(layer, x, n, y);
}

}  // namespace

TileKernels tile_kernels() { return {multiply_alone, feed_forward_alone, attend_tiles}; }

bool keeps_to_the_specification(const TileKernels& tiles) {
  // Longer than a strip of weights, and as long as half a step.
  constexpr TestForm kForms[] = {{WeightType::w4, 19, 320, 32, 1, kMoreThanOne},
                                 {WeightType::w8, 19, 96, 32, 1, kMoreThanOne},
                                 {WeightType::w8, 19, 96, 32, 0, kMoreThanOne},
                                 {WeightType::w8, 19, 304, 16, 0, kMoreThanOne}};
  const bool products =
      std::ranges::all_of(kForms, [&](const TestForm& form) { return multiplies(tiles, form); });
  return products && feeds_forward(tiles, false) && feeds_forward(tiles, true) &&
         attends(tiles, 0) && attends(tiles, 9);
}

}  // namespace polykv
