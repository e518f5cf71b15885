// Rotation of pairs by angles computed in f64: at position 8,000 an f32 angle is already off by
// 5e-4.
#include "model/rope.h"

#include <algorithm>
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

// YaRN: the pair, counted with fractions, whose wave the original context holds `waves` times.
double yarn_pair(double waves, const ModelConfig& config) {
  return config.head_dim * std::log(config.rope_positions / (waves * 2 * std::numbers::pi)) /
         (2 * std::log(double{config.rope_base}));
}

// Pairs before the one of rope_high waves are kept, those behind that of rope_low stretched.
double yarn_scaled(double frequency, uint32_t pair, const ModelConfig& config) {
  const double first = std::max(std::floor(yarn_pair(config.rope_high, config)), 0.0);
  double last = std::min(std::ceil(yarn_pair(config.rope_low, config)), config.head_dim - 1.0);
  if (last == first) last += 0.001;
  const double stretched = std::clamp((pair - first) / (last - first), 0.0, 1.0);
  return frequency / config.rope_factor * stretched + frequency * (1 - stretched);
}

double scaled(double frequency, uint32_t pair, const ModelConfig& config) {
  switch (config.rope_scaling) {
    case RopeScaling::linear:
      return frequency / config.rope_factor;
    case RopeScaling::llama3:
      return llama3_scaled(frequency, config);
    case RopeScaling::yarn:
      return yarn_scaled(frequency, pair, config);
    default:
      return frequency;
  }
}

// One head's pairs, several at once: both are loops that the compiler makes vectors of.
void turn_neighbours(float* __restrict x, uint32_t half, const float* __restrict cos,
                     const float* __restrict sin) {
  for (uint32_t i = 0; i < half; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * cos[i] - b * sin[i];
    x[2 * i + 1] = a * sin[i] + b * cos[i];
  }
}
void turn_halves(float* __restrict x, uint32_t half, const float* __restrict cos,
                 const float* __restrict sin) {
  for (uint32_t i = 0; i < half; ++i) {
    const float a = x[i], b = x[half + i];
    x[i] = a * cos[i] - b * sin[i];
    x[half + i] = a * sin[i] + b * cos[i];
  }
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
    out.push_back(scaled(plain, i, config));
  }
  return out;
}

Rope::Rope(const ModelConfig& config)
    : frequencies_(rope_frequencies(config)),
      length_(config.rope_scaling == RopeScaling::yarn ? config.rope_attention : 1),
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
    cos[i] = static_cast<float>(length_ * std::cos(angle));
    sin[i] = static_cast<float>(length_ * std::sin(angle));
  }
}

void Rope::apply(float* x, uint32_t n_heads, const float* cos, const float* sin) const {
  const uint32_t half = head_dim_ / 2;
  for (uint32_t h = 0; h < n_heads; ++h, x += head_dim_) {
    interleaved_ ? turn_neighbours(x, half, cos, sin) : turn_halves(x, half, cos, sin);
  }
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
