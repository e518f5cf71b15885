// The specification of the kernels, in scalar code for any CPU.
#include "model/kernels.h"

namespace polykv {
namespace {

// The reduction order of every kernel set: column c goes to lane c % 32, each lane adds its columns
// in ascending order, then lane l takes lane l + 16, l + 8, l + 4, l + 2, l + 1. Sets may fuse a
// product with its addition.
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

}  // namespace

void matmul_ref(const Weight& w, const float* x, uint32_t n, uint32_t row_begin, uint32_t row_end,
                float* y, float* scratch) {
  for (uint32_t r = row_begin; r < row_end; ++r) {
    dequantise_row(w, r, scratch);
    for (uint32_t m = 0; m < n; ++m) {
      y[size_t{m} * w.n_rows + r] = dot(scratch, x + size_t{m} * w.n_cols, w.n_cols);
    }
  }
}

}  // namespace polykv
