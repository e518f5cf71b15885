// The specification of the kernels, in scalar code for any CPU.
#include <algorithm>
#include <bit>
#include <cmath>

#include "ipc/half.h"
#include "model/kernels.h"
#include "model/weight_layout.h"

namespace polykv {
namespace {

// One block of x; `n` of its columns exist.
void quantise_block(const float* x, uint32_t n, int8_t* planes, int16_t* wide, BlockFacts* facts) {
  uint32_t largest = 0;
  for (uint32_t i = 0; i < n; ++i) {
    largest = std::max(largest, std::bit_cast<uint32_t>(x[i]) & 0x7fffffff);
  }
  float inverse;
  set_block_scale(largest, facts, &inverse);
  int sums[2] = {};
  for (uint32_t i = 0; i < kActivationBlock; ++i) {
    const bool there = i < n && inverse != 0;
    const int q = there ? static_cast<int>(std::nearbyint(x[i] * inverse)) : 0;
    const int hi = (q + 128) >> 8;
    wide[i] = static_cast<int16_t>(q);
    planes[i] = static_cast<int8_t>(hi);
    planes[kActivationBlock + i] = static_cast<int8_t>(q - hi * 256);
    sums[i / 16] += q;
  }
  const int all[3] = {sums[0] + sums[1], sums[0], sums[1]};
  for (uint32_t i = 0; i < 3; ++i) {
    facts->sums[i] = facts->scale * static_cast<float>(all[i]);
    facts->zeros[i] = -kCodeZero * all[i];
  }
  facts->reserved = 0;
}

float dot_packed(const Weight& w, uint32_t row, const int16_t* x, const BlockFacts* facts) {
  float y = 0;
  const uint32_t in_block = kActivationBlock / w.block;  // of the weights' in one of x's
  for (uint32_t b = 0; b < row_blocks(w); ++b, x += w.block) {
    const BlockFacts& block = facts[b / in_block];
    const uint32_t part = in_block == 1 ? 0 : 1 + b % 2;
    int sum = 0;
    for (uint32_t c = 0; c < w.block; ++c) sum += code_at(w, row, b, c) * x[c];
    const uint16_t* scales = w.scales + scale_offset(w, row, b);
    y = std::fma(half_to_float(scales[0]), block.scale * static_cast<float>(sum), y);
    if (w.has_min == 1) y = std::fma(half_to_float(scales[kGroupRows]), block.sums[part], y);
  }
  return y;
}

// The reduction order of plain rows in every kernel set: column c goes to lane c % 32, each lane
// adds its columns in ascending order, then lane l takes lane l + 16, l + 8, l + 4, l + 2, l + 1.
// Sets may fuse a product with its addition.
constexpr uint32_t kLanes = 32;

float dot(const float* w, const float* x, uint32_t n_cols) {
  float lanes[kLanes] = {};
  uint32_t c = 0;
  for (; c + kLanes <= n_cols; c += kLanes) {
    for (uint32_t l = 0; l < kLanes; ++l) lanes[l] += w[c + l] * x[c + l];
  }
  for (uint32_t l = 0; c < n_cols; ++c, ++l) lanes[l] += w[c] * x[c];
  for (uint32_t half = kLanes / 2; half > 0; half /= 2) {
    for (uint32_t l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  }
  return lanes[0];
}

// exp(x) for x in [-87, 88.5], to about 1e-7: 2^n times a Taylor polynomial on |r| <= ln(2)/2, in
// the same steps in every set.
float exponential(float x) {
  const float n = std::nearbyint(x * 1.44269504f);
  const float r = std::fma(n, 2.12194440e-4f, std::fma(n, -0.693359375f, x));
  float y = 1.0f / 5040;
  for (const float factor : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) {
    y = std::fma(y, r, factor);
  }
  return std::bit_cast<float>(std::bit_cast<int32_t>(y) + static_cast<int32_t>(n) * (1 << 23));
}

// gate * sigmoid(slope) * up. NaN stays NaN: the comparisons let it through.
float gated(float gate, float slope, float up) {
  if (std::isnan(gate)) return gate;
  return gate / (1.0f + exponential(std::clamp(-slope, -87.0f, 88.5f))) * up;
}

// (1 + tanh(u)) / 2 = sigmoid(2u), here u = sqrt(2 / pi) * (x + 0.044715 x^3).
float gelu_slope(float x) {
  const float inner = std::fma(x * x, 0.044715f, 1.0f);
  return 1.59576912f * (x * inner);
}

}  // namespace

void swiglu_ref(float* gate, const float* up, uint32_t n) {
  for (uint32_t i = 0; i < n; ++i) gate[i] = gated(gate[i], gate[i], up[i]);
}

void geglu_ref(float* gate, const float* up, uint32_t n) {
  for (uint32_t i = 0; i < n; ++i) gate[i] = gated(gate[i], gelu_slope(gate[i]), up[i]);
}

void quantise_ref(const Activations& x, uint32_t begin, uint32_t end) {
  for (uint32_t m = begin; m < end; ++m) {
    for (uint32_t b = 0; b < x.n_blocks; ++b) {
      const size_t at = size_t{m} * x.n_blocks + b;
      const uint32_t first = b * kActivationBlock;
      quantise_block(
          x.x + size_t{m} * x.n_cols + first, std::min(kActivationBlock, x.n_cols - first),
          x.planes + at * 2 * kActivationBlock, x.wide + at * kActivationBlock, x.facts + at);
    }
  }
}

void matmul_ref(const Weight& w, const Activations& x, uint32_t row_begin, uint32_t row_end,
                float* y, float* scratch) {
  for (uint32_t r = row_begin; r < row_end; ++r) {
    if (!is_packed(w)) dequantise_row(w, r, scratch);
    for (uint32_t m = 0; m < x.n; ++m) {
      const size_t block = size_t{m} * x.n_blocks;
      y[size_t{m} * w.n_rows + r] =
          is_packed(w) ? dot_packed(w, r, x.wide + block * kActivationBlock, x.facts + block)
                       : dot(scratch, x.x + size_t{m} * w.n_cols, w.n_cols);
    }
  }
}

void matmul_fp32(const Weight& w, const Activations& x, uint32_t row_begin, uint32_t row_end,
                 float* y, float* scratch) {
  for (uint32_t r = row_begin; r < row_end; ++r) {
    dequantise_row(w, r, scratch);
    for (uint32_t m = 0; m < x.n; ++m) {
      y[size_t{m} * w.n_rows + r] = dot(scratch, x.x + size_t{m} * w.n_cols, w.n_cols);
    }
  }
}

}  // namespace polykv
