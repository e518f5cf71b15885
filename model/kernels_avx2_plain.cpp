// Products with f16, bf16 and f32 rows, and the activation, on x86-64 with AVX2, FMA and F16C.
// As in kernels_avx2.cpp, nothing from elsewhere is instantiated here.
#include <immintrin.h>

#include "model/kernels_x86.h"

namespace polykv {
namespace {

// Weights are read once per step and come from memory: without this, reading costs more than
// computing (measured: 2.5 times the whole at one row of x). Past the end of a mapping it does
// nothing.
inline void fetch_ahead(const void* p, int bytes) {
  _mm_prefetch(static_cast<const char*>(p) + bytes, _MM_HINT_T0);
}

void expand_f16_row(const Weight& w, uint32_t row, float* out) {
  const auto* bits = reinterpret_cast<const uint16_t*>(w.values) + size_t{row} * w.n_cols;
  uint32_t c = 0;
  for (; c + 8 <= w.n_cols; c += 8) {
    fetch_ahead(bits + c, 4096);
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bits + c));
    _mm256_storeu_ps(out + c, _mm256_cvtph_ps(halves));
  }
  for (; c < w.n_cols; ++c) out[c] = _cvtsh_ss(bits[c]);
}

void expand_bf16_row(const Weight& w, uint32_t row, float* out) {
  const auto* bits = reinterpret_cast<const uint16_t*>(w.values) + size_t{row} * w.n_cols;
  for (uint32_t c = 0; c < w.n_cols; ++c) {
    const uint32_t wide = uint32_t{bits[c]} << 16;
    __builtin_memcpy(out + c, &wide, sizeof wide);
  }
}

// Row `row` as f32: in scratch, or in place where it is f32 already.
const float* expand_row(const Weight& w, uint32_t row, float* scratch) {
  switch (w.type) {
    case WeightType::f16:
      expand_f16_row(w, row, scratch);
      break;
    case WeightType::bf16:
      expand_bf16_row(w, row, scratch);
      break;
    default:
      return reinterpret_cast<const float*>(w.values) + size_t{row} * w.n_cols;
  }
  return scratch;
}

// The lanes' tree of model/kernels_ref.cpp. acc[i] holds lanes 8i..8i+7.
inline float sum_lanes(const __m256* acc) {
  const __m256 eight = _mm256_add_ps(_mm256_add_ps(acc[0], acc[2]), _mm256_add_ps(acc[1], acc[3]));
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

// The first `count` of 8 lanes; none below 0, all above 8.
inline __m256i first_lanes(int count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// Lane group j of the last, short step for N rows of x; lanes outside `mask` add nothing.
template <int N>
inline void tail_step(const float* w, const float* x, uint32_t n_cols, __m256i mask, int j,
                      __m256 (&acc)[N][4]) {
  const __m256 wv = _mm256_maskload_ps(w, mask);
#pragma GCC unroll 4
  for (int i = 0; i < N; ++i) {
    const __m256 xv = _mm256_maskload_ps(x + size_t(i) * n_cols, mask);
    acc[i][j] = _mm256_fmadd_ps(wv, xv, acc[i][j]);
  }
}

// N rows of x share one row of weights; each keeps the arithmetic of N = 1. y: N outputs, y_step
// apart. Every loop over acc is unrolled, or the accumulators would live in memory.
template <int N>
void dot_rows(const float* w, const float* x, uint32_t n_cols, float* y, size_t y_step) {
  __m256 acc[N][4];
#pragma GCC unroll 16
  for (int i = 0; i < N * 4; ++i) acc[i / 4][i % 4] = _mm256_setzero_ps();
  uint32_t c = 0;
  for (; c + 32 <= n_cols; c += 32) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const __m256 wv = _mm256_loadu_ps(w + c + 8 * j);
#pragma GCC unroll 4
      for (int i = 0; i < N; ++i) {
        const __m256 xv = _mm256_loadu_ps(x + size_t(i) * n_cols + c + 8 * j);
        acc[i][j] = _mm256_fmadd_ps(wv, xv, acc[i][j]);
      }
    }
  }
  if (c < n_cols) {
    const int left = static_cast<int>(n_cols - c);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      tail_step<N>(w + c + 8 * j, x + c + 8 * j, n_cols, first_lanes(left - 8 * j), j, acc);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < N; ++i) y[i * y_step] = sum_lanes(acc[i]);
}

// As exponential() in kernels_ref.cpp, step by step.
inline __m256 exponential(__m256 x) {
  constexpr float kFactors[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256 high = _mm256_fmadd_ps(n, _mm256_set1_ps(-0.693359375f), x);
  const __m256 r = _mm256_fmadd_ps(n, _mm256_set1_ps(2.12194440e-4f), high);
  __m256 y = _mm256_set1_ps(1.0f / 5040);
#pragma GCC unroll 7
  for (const float factor : kFactors) y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(factor));
  const __m256i power = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(y), power));
}

// The operands' order lets a NaN through to the division.
inline __m256 gated(__m256 gate, __m256 slope, __m256 up) {
  const __m256 negative = _mm256_xor_ps(slope, _mm256_set1_ps(-0.0f));
  __m256 x = _mm256_min_ps(_mm256_set1_ps(88.5f), negative);
  x = _mm256_max_ps(_mm256_set1_ps(-87.0f), x);
  const __m256 below = _mm256_add_ps(_mm256_set1_ps(1.0f), exponential(x));
  return _mm256_mul_ps(_mm256_div_ps(gate, below), up);
}

// As gelu_slope() in kernels_ref.cpp.
inline __m256 gelu_slope(__m256 x) {
  const __m256 inner =
      _mm256_fmadd_ps(_mm256_mul_ps(x, x), _mm256_set1_ps(0.044715f), _mm256_set1_ps(1.0f));
  return _mm256_mul_ps(_mm256_set1_ps(1.59576912f), _mm256_mul_ps(x, inner));
}

template <bool kGelu>
inline __m256 gated(__m256 gate, __m256 up) {
  return gated(gate, kGelu ? gelu_slope(gate) : gate, up);
}

template <bool kGelu>
void gate_rows(float* gate, const float* up, uint32_t n) {
  uint32_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 x = _mm256_loadu_ps(gate + i);
    _mm256_storeu_ps(gate + i, gated<kGelu>(x, _mm256_loadu_ps(up + i)));
  }
  if (i == n) return;
  const __m256i mask = first_lanes(static_cast<int>(n - i));
  const __m256 rest = _mm256_maskload_ps(gate + i, mask);
  _mm256_maskstore_ps(gate + i, mask, gated<kGelu>(rest, _mm256_maskload_ps(up + i, mask)));
}

}  // namespace

void swiglu_avx2(float* gate, const float* up, uint32_t n) { gate_rows<false>(gate, up, n); }
void geglu_avx2(float* gate, const float* up, uint32_t n) { gate_rows<true>(gate, up, n); }

void matmul_plain_avx2(const Weight& w, const Activations& x, uint32_t row_begin, uint32_t row_end,
                       float* y, float* scratch) {
  const size_t step = w.n_rows;
  for (uint32_t r = row_begin; r < row_end; ++r) {
    const float* row = expand_row(w, r, scratch);
    const float* in = x.x;
    float* out = y + r;
    uint32_t m = 0;
    for (; m + 3 <= x.n; m += 3, in += size_t{3} * w.n_cols, out += 3 * step) {
      dot_rows<3>(row, in, w.n_cols, out, step);
    }
    if (m + 2 == x.n) dot_rows<2>(row, in, w.n_cols, out, step);
    if (m + 1 == x.n) dot_rows<1>(row, in, w.n_cols, out, step);
  }
}

}  // namespace polykv
