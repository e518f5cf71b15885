// Rotary position embedding (RoFormer, arXiv 2104.09864, section 3.4), f32 with f64 angles.
#pragma once

#include <cstdint>
#include <vector>

#include "model/config.h"

namespace polykv {

// The angle by which a position turns pair i. [head_dim / 2]
std::vector<double> rope_frequencies(const ModelConfig& config);

class Rope {
 public:
  // That of layers that see all.
  explicit Rope(const ModelConfig& config);
  // Turns `n_heads` heads of one token by `position` (may be negative: an offset) and leaves their
  // length. x: [n_heads, head_dim].
  void rotate(float* x, uint32_t n_heads, int64_t position) const;

  // What a token at `position` gets, in two steps, for callers that rotate many heads by one
  // position: turned, and grown by the configuration's factor.
  // cos, sin: [head_dim / 2] of the angles of `position`.
  void angles(int64_t position, float* cos, float* sin) const;
  void apply(float* x, uint32_t n_heads, const float* cos, const float* sin) const;

 private:
  void turn_pair(float* x, uint32_t n_heads, uint32_t pair, float cos, float sin) const;
  std::vector<double> frequencies_;  // [head_dim / 2]
  double length_;                    // by what a vector grows
  uint32_t head_dim_;
  bool interleaved_;
};

// The RoPE of each layer: one for all, or two where layers with a window have a base of their own.
class LayerRopes {
 public:
  explicit LayerRopes(const ModelConfig& config);
  uint32_t n() const { return static_cast<uint32_t>(ropes_.size()); }  // 1 or 2
  // Which of them a layer has, below n(): for tables of angles.
  uint32_t index_of(uint32_t layer) const { return n() == 2 && windows_.of(layer) != 0 ? 1 : 0; }
  const Rope& at(uint32_t index) const { return ropes_[index]; }
  const Rope& of(uint32_t layer) const { return ropes_[index_of(layer)]; }

 private:
  std::vector<Rope> ropes_;
  LayerWindows windows_;
};

}  // namespace polykv
