// Rotation of pairs by angles computed in f64: at position 8,000 an f32 angle is already off by
// 5e-4.
#include "model/rope.h"

#include <cmath>
#include <numbers>

namespace polykv {

namespace {

// Llama 3.1: a wave that the original context holds more than rope_high times is kept, one that it
// holds less than rope_low times is stretched by the factor, between them it goes over smoothly.
double llama3_scaled(double frequency, const ModelConfig& config) {
  const double waves = config.rope_positions * frequency / (2 * std::numbers::pi);
  if (waves < config.rope_low) return frequency / config.rope_factor;
  if (waves > config.rope_high) return frequency;
  const double kept = (waves - config.rope_low) / (double{config.rope_high} - config.rope_low);
  return (1 - kept) * frequency / config.rope_factor + kept * frequency;
}

// The configuration of layers with a window, as if all were such.
ModelConfig local(const ModelConfig& config) {
  ModelConfig out = config;
  out.rope_base = config.rope_local_base;
  out.rope_scaling = RopeScaling::none;
  return out;
}

}  // namespace

std::vector<double> rope_frequencies(const ModelConfig& config) {
  std::vector<double> out;
  out.reserve(config.head_dim / 2);
  for (uint32_t i = 0; i < config.head_dim / 2; ++i) {
    const double plain = std::pow(double{config.rope_base}, -2.0 * i / config.head_dim);
    if (config.rope_scaling == RopeScaling::llama3) {
      out.push_back(llama3_scaled(plain, config));
    } else {
      out.push_back(config.rope_scaling == RopeScaling::linear ? plain / config.rope_factor
                                                               : plain);
    }
  }
  return out;
}

Rope::Rope(const ModelConfig& config)
    : frequencies_(rope_frequencies(config)),
      head_dim_(config.head_dim),
      interleaved_(config.rope_interleaved != 0) {}

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

LayerRopes::LayerRopes(const ModelConfig& config) : ropes_{Rope(config)}, windows_(config.windows) {
  if (config.rope_local_base != 0) ropes_.emplace_back(local(config));
}

}  // namespace polykv
