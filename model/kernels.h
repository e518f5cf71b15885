// The operations of a decode step: one signature here, one file per implementation.
// kernels_ref is the specification. Arithmetic contract: a row's result is bitwise independent of
// the number of rows, threads and chunks: fixed reduction order per (row, output), for one
// instruction set.
#pragma once

#include <cstdint>
#include <string_view>

#include "ipc/result.h"
#include "model/image.h"

namespace polykv {

// y[m, r] = sum_c w[r, c] * x[m, c] for r in [row_begin, row_end). Weights are dequantised to f32
// (exactly), products and sums are f32. x: [n, w.n_cols]; y: [n, w.n_rows]; scratch: [w.n_cols].
using MatmulFn = void (*)(const Weight& w, const float* x, uint32_t n, uint32_t row_begin,
                          uint32_t row_end, float* y, float* scratch);

struct Kernels {
  std::string_view name;  // "ref", "avx2"
  MatmulFn matmul;
};
void matmul_ref(const Weight& w, const float* x, uint32_t n, uint32_t row_begin, uint32_t row_end,
                float* y, float* scratch);
void matmul_avx2(const Weight& w, const float* x, uint32_t n, uint32_t row_begin, uint32_t row_end,
                 float* y, float* scratch);

// The best set that this CPU has and that reproduces a known vector; `force` ("" = best) names one.
Result<Kernels> choose_kernels(std::string_view force = "");
std::span<const Kernels> kernel_sets();  // all that this CPU can run
int kernel_fallbacks();                  // sets refused by their self-test

// Row `row` of w as f32. out: [n_cols]. Used for embeddings, by prefill and by matmul_ref.
void dequantise_row(const Weight& w, uint32_t row, float* out);

// out = x / rms(x) * weight. x, weight, out: [n].
void rms_norm(const float* x, const float* weight, uint32_t n, float eps, float* out);
// gate = silu(gate) * up, elementwise [n].
void swiglu(float* gate, const float* up, uint32_t n);

}  // namespace polykv
