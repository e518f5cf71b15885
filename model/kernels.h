// The operations of a decode step: one signature here, one file per implementation.
// kernels_ref is the specification. Arithmetic contract: a row's result is bitwise independent of
// the number of rows, threads and chunks: fixed reduction order per (row, output), for one
// instruction set.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "ipc/result.h"
#include "model/activations.h"
#include "model/image.h"

namespace polykv {

// Quantises rows [begin, end) of x. Every set gives the same bits.
using QuantiseFn = void (*)(const Activations& x, uint32_t begin, uint32_t end);

// y[m, r] = sum_c w[r, c] * x[m, c] for r in [row_begin, row_end); row_begin is a multiple of 16,
// row_end too or n_rows. y: [x.n, w.n_rows]. scratch: [matmul_scratch_floats(w.n_cols)].
//   w4, w8: x quantised. Sums over a block are integers and exact; then, block by block,
//           y = fma(d, scale * sum, y) and y = fma(m, sum of x, y): the same bits in every set.
//   else:   x in f32, products and sums f32.
using MatmulFn = void (*)(const Weight& w, const Activations& x, uint32_t row_begin,
                          uint32_t row_end, float* y, float* scratch);

// gate = silu(gate) * up, or gelu(gate) * up with GELU's approximation by tanh, elementwise [n].
// Every set gives the same bits.
using GatedFn = void (*)(float* gate, const float* up, uint32_t n);

struct Kernels {
  std::string_view name;  // "ref", "avx2", "avx512", "amx"
  QuantiseFn quantise;
  MatmulFn matmul;
  GatedFn swiglu, geglu;
  std::string_view operations{};  // which of them by what, for people
};
constexpr uint32_t matmul_scratch_floats(uint32_t n_cols) {
  return (n_cols + 15) / 16 * 16 * 2;  // two rows
}

void quantise_ref(const Activations& x, uint32_t begin, uint32_t end);
void quantise_avx2(const Activations& x, uint32_t begin, uint32_t end);
void quantise_avx512(const Activations& x, uint32_t begin, uint32_t end);
void swiglu_ref(float* gate, const float* up, uint32_t n);
void swiglu_avx2(float* gate, const float* up, uint32_t n);
void geglu_ref(float* gate, const float* up, uint32_t n);
void geglu_avx2(float* gate, const float* up, uint32_t n);
void matmul_ref(const Weight& w, const Activations& x, uint32_t row_begin, uint32_t row_end,
                float* y, float* scratch);
void matmul_fp32(const Weight& w, const Activations& x, uint32_t row_begin, uint32_t row_end,
                 float* y, float* scratch);
void matmul_avx2(const Weight& w, const Activations& x, uint32_t row_begin, uint32_t row_end,
                 float* y, float* scratch);
void matmul_avx512(const Weight& w, const Activations& x, uint32_t row_begin, uint32_t row_end,
                   float* y, float* scratch);
void matmul_amx(const Weight& w, const Activations& x, uint32_t row_begin, uint32_t row_end,
                float* y, float* scratch);

// What this CPU has the instructions for, the best first, the reference last. Not tested.
std::span<const Kernels> kernel_sets();
// A set's self-test.
bool reproduces_known_vectors(const Kernels& set);

struct KernelChoice {
  Kernels set;
  std::vector<std::string_view> refused;  // better ones that failed their self-test
};
// The best of `sets` (the best first) that passes its self-test, and no other is tested: a start
// pays for one. `force` ("" = best) names one. usage error with the choices if it is not there or
// fails.
Result<KernelChoice> choose_kernels(std::string_view force = "",
                                    std::span<const Kernels> sets = kernel_sets());

// The same by the name of a level of instructions, which may be attention's ("avx512vbmi" helps
// attention only), or kFp32Kernels.
Result<KernelChoice> choose_matrix_kernels(const std::string& isa);

// Activations as they are, weights dequantised: what rounding to 16 bits is measured against. Slow,
// and never chosen by itself.
inline constexpr Kernels kFp32Kernels{"fp32",     quantise_ref, matmul_fp32,
                                      swiglu_ref, geglu_ref,    "all in f32, without vectors"};

// Row `row` of w as f32, exactly. out: [n_cols]. For embeddings and for prefill.
void dequantise_row(const Weight& w, uint32_t row, float* out);

// out = x / rms(x) * weight. x, weight, out: [n].
void rms_norm(const float* x, const float* weight, uint32_t n, float eps, float* out);
}  // namespace polykv
