// Rotation of pairs by angles computed in f64: at position 8,000 an f32 angle is already off by
// 5e-4.
#include "model/rope.h"

#include <cmath>

namespace polykv {

Rope::Rope(const ModelConfig& config)
    : head_dim_(config.head_dim), interleaved_(config.rope_interleaved != 0) {
  frequencies_.reserve(head_dim_ / 2);
  for (uint32_t i = 0; i < head_dim_ / 2; ++i) {
    frequencies_.push_back(std::pow(double{config.rope_base}, -2.0 * i / head_dim_));
  }
}

void Rope::rotate(float* x, uint32_t n_heads, int64_t position) const {
  for (uint32_t i = 0; i < head_dim_ / 2; ++i) {
    const double angle = static_cast<double>(position) * frequencies_[i];
    turn_pair(x, n_heads, i, static_cast<float>(std::cos(angle)),
              static_cast<float>(std::sin(angle)));
  }
}

void Rope::angles(int64_t position, float* cos, float* sin) const {
  for (uint32_t i = 0; i < head_dim_ / 2; ++i) {
    const double angle = static_cast<double>(position) * frequencies_[i];
    cos[i] = static_cast<float>(std::cos(angle));
    sin[i] = static_cast<float>(std::sin(angle));
  }
}

void Rope::apply(float* x, uint32_t n_heads, const float* cos, const float* sin) const {
  for (uint32_t i = 0; i < head_dim_ / 2; ++i) turn_pair(x, n_heads, i, cos[i], sin[i]);
}

void Rope::turn_pair(float* x, uint32_t n_heads, uint32_t pair, float cos, float sin) const {
  const uint32_t first = interleaved_ ? 2 * pair : pair;
  const uint32_t second = interleaved_ ? first + 1 : first + head_dim_ / 2;
  for (uint32_t h = 0; h < n_heads; ++h, x += head_dim_) {
    const float a = x[first];
    const float b = x[second];
    x[first] = a * cos - b * sin;
    x[second] = a * sin + b * cos;
  }
}

}  // namespace polykv
