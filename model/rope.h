// Rotary position embedding (RoFormer, arXiv 2104.09864, section 3.4), f32 with f64 angles.
#pragma once

#include <cstdint>
#include <vector>

#include "model/config.h"

namespace polykv {

class Rope {
 public:
  explicit Rope(const ModelConfig& config);
  // Rotates `n_heads` heads of one token by `position` (may be negative: an offset). x: [n_heads, head_dim].
  void rotate(float* x, uint32_t n_heads, int64_t position) const;

 private:
  std::vector<double> frequencies_;  // [head_dim / 2]
  uint32_t head_dim_;
  bool interleaved_;
};

}  // namespace polykv
