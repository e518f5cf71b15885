// What every kernel set shares: exact dequantisation, norms and the activation.
#include "model/kernels.h"

#include <bit>
#include <cmath>

#include "ipc/half.h"
#include "model/weight_layout.h"

namespace polykv {
namespace {

// d * q has at most 11 + 8 significant bits and is exact in f32, so d * q + m is rounded once, with
// or without a fused multiply-add: every implementation gives the same bits.
void dequantise_packed(const Weight& w, uint32_t row, float* out) {
  for (uint32_t b = 0; b < row_blocks(w); ++b, out += w.block) {
    const uint16_t* scales = w.scales + scale_offset(w, row, b);
    const float d = half_to_float(scales[0]);
    const float m = w.has_min == 1 ? half_to_float(scales[kGroupRows]) : 0.0f;
    for (uint32_t j = 0; j < w.block; ++j) {
      out[j] = d * static_cast<float>(code_at(w, row, b, j)) + m;
    }
  }
}

void dequantise_w16(const Weight& w, uint32_t row, float* out) {
  const auto* bits = reinterpret_cast<const uint16_t*>(w.values) + size_t{row} * w.n_cols;
  if (w.type == WeightType::f16) {
    for (uint32_t c = 0; c < w.n_cols; ++c) out[c] = half_to_float(bits[c]);
  } else {
    for (uint32_t c = 0; c < w.n_cols; ++c) out[c] = std::bit_cast<float>(uint32_t{bits[c]} << 16);
  }
}

}  // namespace

void dequantise_row(const Weight& w, uint32_t row, float* out) {
  switch (w.type) {
    case WeightType::w4:
    case WeightType::w8:
      return dequantise_packed(w, row, out);
    case WeightType::f16:
    case WeightType::bf16:
      return dequantise_w16(w, row, out);
    case WeightType::f32:
      std::memcpy(out, w.values + size_t{row} * w.n_cols * sizeof(float), w.n_cols * sizeof(float));
      return;
  }
  check(false, "a weight of unknown type reached the kernels");
}

void rms_norm(const float* x, const float* weight, uint32_t n, float eps, float* out) {
  double lanes[4] = {};
  for (uint32_t i = 0; i < n; ++i) lanes[i % 4] += double{x[i]} * x[i];
  const double mean = ((lanes[0] + lanes[2]) + (lanes[1] + lanes[3])) / n;
  const float inverse = static_cast<float>(1.0 / std::sqrt(mean + double{eps}));
  for (uint32_t i = 0; i < n; ++i) out[i] = x[i] * inverse * weight[i];
}

}  // namespace polykv
