// Attention as the textbook has it: all K and V of one stream in f32, sums in f64.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "model/decoder.h"
#include "model/rope.h"

namespace polykv::test {

class PlainAttention : public Attention {
 public:
  explicit PlainAttention(const ModelConfig& config)
      : config_(config),
        ropes_(config),
        keys_(config.n_layers),
        values_(config.n_layers),
        queries_(config.n_layers) {}

  void attend(const AttentionCall& call) override {
    const size_t width = size_t{config_.n_kv_heads} * config_.head_dim;
    for (uint32_t m = 0; m < call.n_rows; ++m) {
      std::vector<float>& keys = keys_[call.layer];
      keys.insert(keys.end(), call.k + m * width, call.k + (m + 1) * width);
      turn(call.layer, &keys[keys.size() - width], config_.n_kv_heads, call.positions[m]);
      values_[call.layer].insert(values_[call.layer].end(), call.v + m * width,
                                 call.v + (m + 1) * width);
      attend_row(call, m);
    }
  }
  const std::vector<float>& keys(uint32_t layer) const { return keys_[layer]; }  // after RoPE
  const std::vector<float>& values(uint32_t layer) const { return values_[layer]; }
  const std::vector<float>& queries(uint32_t layer) const { return queries_[layer]; }  // the same

 private:
  // x: [n_heads, head_dim]
  void turn(uint32_t layer, float* x, uint32_t n_heads, uint32_t position) const {
    std::vector<float> cos(config_.head_dim / 2), sin(config_.head_dim / 2);
    ropes_.of(layer).angles(position, cos.data(), sin.data());
    ropes_.of(layer).apply(x, n_heads, cos.data(), sin.data());
  }

  void attend_row(const AttentionCall& call, uint32_t m) {
    const size_t width = size_t{config_.n_heads} * config_.head_dim;
    std::vector<float> q(call.q + m * width, call.q + (m + 1) * width);
    turn(call.layer, q.data(), config_.n_heads, call.positions[m]);
    queries_[call.layer].insert(queries_[call.layer].end(), q.begin(), q.end());
    for (uint32_t h = 0; h < config_.n_heads; ++h) {
      attend_head(call.layer, h, &q[size_t{h} * config_.head_dim],
                  call.out + m * width + size_t{h} * config_.head_dim);
    }
  }

  void attend_head(uint32_t layer, uint32_t head, const float* q, float* out) {
    const uint32_t d = config_.head_dim;
    const size_t step = size_t{config_.n_kv_heads} * d;
    const size_t first = size_t{head / (config_.n_heads / config_.n_kv_heads)} * d;
    const size_t kept = keys_[layer].size() / step, window = config_.windows.of(layer);
    const size_t begin = window == 0 || kept <= window ? 0 : kept - window;
    std::vector<double> scores;
    for (size_t at = begin * step + first; at < keys_[layer].size(); at += step) {
      double sum = 0;
      for (uint32_t i = 0; i < d; ++i) sum += double{q[i]} * keys_[layer][at + i];
      scores.push_back(sum / std::sqrt(double(d)));
    }
    const double top = *std::max_element(scores.begin(), scores.end());
    std::vector<double> acc(d);
    double mass = 0;
    for (size_t t = 0; t < scores.size(); ++t) {
      const double p = std::exp(scores[t] - top);
      mass += p;
      for (uint32_t i = 0; i < d; ++i) {
        acc[i] += p * values_[layer][first + (begin + t) * step + i];
      }
    }
    for (uint32_t i = 0; i < d; ++i) out[i] = static_cast<float>(acc[i] / mass);
  }

  ModelConfig config_;
  LayerRopes ropes_;
  std::vector<std::vector<float>> keys_, values_;  // [layers][tokens, n_kv_heads, head_dim]
  std::vector<std::vector<float>> queries_;        // [layers][tokens, n_heads, head_dim]
};

}  // namespace polykv::test
