// Weights of every stored type with pseudo-random contents, for kernel tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "ipc/half.h"
#include "model/kernels.h"

namespace polykv::test {

struct WeightShape {
  WeightType type;
  uint32_t n_rows, n_cols, block, has_min;
};

class SyntheticWeight {
 public:
  SyntheticWeight(const WeightShape& shape, uint32_t seed) : random_(seed) {
    // Rows that fill up the last group hold anything: they must not matter.
    const uint32_t n_rows = shape.block > 0 ? (shape.n_rows + 15) / 16 * 16 : shape.n_rows;
    const uint32_t n_values = n_rows * shape.n_cols;
    if (shape.block > 0) fill_scales(n_values / shape.block * (shape.has_min ? 2 : 1));
    fill_values(shape.type, n_values);
    weight_ = {.type = shape.type,
               .n_rows = shape.n_rows,
               .n_cols = shape.n_cols,
               .block = shape.block,
               .has_min = shape.has_min,
               .values = values_.data(),
               .scales = scales_.data()};
  }
  const Weight& weight() const { return weight_; }
  // Every code of w4 or w8 the same.
  void flatten(int byte) { std::ranges::fill(values_, static_cast<std::byte>(byte)); }

 private:
  float uniform() { return std::uniform_real_distribution<float>(-1, 1)(random_); }

  void fill_scales(uint32_t n) {
    for (uint32_t i = 0; i < n; ++i) scales_.push_back(float_to_half(uniform() * 0.1f));
    scales_[0] = 0x0001;  // the smallest subnormal
  }

  template <class T>
  void append(T value) {
    const auto* bytes = reinterpret_cast<const std::byte*>(&value);
    values_.insert(values_.end(), bytes, bytes + sizeof value);
  }

  void fill_values(WeightType type, uint32_t n) {
    const uint32_t items = type == WeightType::w4 ? n / 2 : n;
    for (uint32_t i = 0; i < items; ++i) {
      if (type == WeightType::f32) {
        append(uniform());
      } else if (type == WeightType::f16) {
        append(float_to_half(uniform()));
      } else if (type == WeightType::bf16) {
        append(static_cast<uint16_t>(0x3c00 + (random_() & 0x80ff)));
      } else {
        append(static_cast<uint8_t>(random_()));
      }
    }
  }

  std::mt19937 random_;
  std::vector<std::byte> values_;
  std::vector<uint16_t> scales_;
  Weight weight_;
};

// Every stored type; column counts that do not fill the kernels' vectors where the type allows
// them.
inline std::vector<WeightShape> weight_shapes() {
  return {{WeightType::w4, 7, 96, 32, 1},  {WeightType::w4, 33, 576, 32, 1},
          {WeightType::w8, 7, 96, 32, 0},  {WeightType::w8, 9, 80, 16, 1},
          {WeightType::w8, 9, 48, 16, 0},  {WeightType::w8, 5, 1536, 32, 1},
          {WeightType::w8, 3, 256, 16, 0}, {WeightType::w8, 3, 16, 16, 0},
          {WeightType::w4, 16, 32, 32, 1}, {WeightType::w4, 350, 1536, 32, 1},
          {WeightType::f16, 5, 37, 0, 0},  {WeightType::f16, 5, 64, 0, 0},
          {WeightType::bf16, 5, 37, 0, 0}, {WeightType::bf16, 5, 64, 0, 0},
          {WeightType::f32, 5, 1, 0, 0},   {WeightType::f32, 6, 61, 0, 0}};
}

}  // namespace polykv::test
