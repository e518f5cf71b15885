// The kernels for x86-64 with AVX2, FMA and F16C. Built with those switches: nothing of the
// standard library may be instantiated here, or the linker could give its copy to code for older
// CPUs.
#include <immintrin.h>

#include "model/kernels.h"

namespace polykv {
namespace {

// Exact, like dequantise_row (model/kernels.cpp). Scales come one block at a time.

inline __m128i load8(const uint8_t* p) {
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
}

// Weights are read once per step and come from memory: without this, reading costs more than
// computing (measured: 2.5 times the whole at one row of x). Past the end of a mapping it does
// nothing.
inline void fetch_ahead(const void* p, int bytes) {
  _mm_prefetch(static_cast<const char*>(p) + bytes, _MM_HINT_T0);
}

// 8 bytes hold columns j..j+7 (low nibbles) and j+16..j+23 (high). High nibbles stay shifted left
// by four and meet d / 16: the same product, one shift less.
inline void expand_w4(const uint8_t* bytes, __m256 d, __m256 d16, __m256 m, float* out) {
  const __m256i wide = _mm256_cvtepu8_epi32(load8(bytes));
  const __m256 low = _mm256_cvtepi32_ps(_mm256_and_si256(wide, _mm256_set1_epi32(0x0f)));
  const __m256 high = _mm256_cvtepi32_ps(_mm256_and_si256(wide, _mm256_set1_epi32(0xf0)));
  _mm256_storeu_ps(out, _mm256_fmadd_ps(d, low, m));
  _mm256_storeu_ps(out + 16, _mm256_fmadd_ps(d16, high, m));
}

void expand_w4_row(const Weight& w, uint32_t row, float* out) {
  const uint32_t n_blocks = w.n_cols / 32;
  const auto* bytes = reinterpret_cast<const uint8_t*>(w.values) + size_t{row} * n_blocks * 16;
  const uint16_t* scales = w.scales + size_t{row} * n_blocks * 2;
  for (uint32_t b = 0; b < n_blocks; ++b, bytes += 16, scales += 2, out += 32) {
    fetch_ahead(bytes, 4096);
    fetch_ahead(scales, 1024);
    int pair;
    __builtin_memcpy(&pair, scales, sizeof pair);
    const __m128 dm = _mm_cvtph_ps(_mm_cvtsi32_si128(pair));
    const __m256 d = _mm256_broadcastss_ps(dm);
    const __m256 m = _mm256_broadcastss_ps(_mm_movehdup_ps(dm));
    const __m256 d16 = _mm256_mul_ps(d, _mm256_set1_ps(0.0625f));
    expand_w4(bytes, d, d16, m, out);
    expand_w4(bytes + 8, d, d16, m, out + 8);
  }
}

void expand_w8_row(const Weight& w, uint32_t row, float* out) {
  const uint32_t block = w.block;
  const uint32_t n_blocks = w.n_cols / block;
  const uint32_t per_block = w.has_min ? 2 : 1;
  const auto* q = reinterpret_cast<const uint8_t*>(w.values) + size_t{row} * w.n_cols;
  const uint16_t* scales = w.scales + size_t{row} * n_blocks * per_block;
  for (uint32_t b = 0; b < n_blocks; ++b, scales += per_block) {
    fetch_ahead(q, 4096);
    fetch_ahead(scales, 512);
    const __m256 d = _mm256_set1_ps(_cvtsh_ss(scales[0]));
    const __m256 m = _mm256_set1_ps(per_block == 2 ? _cvtsh_ss(scales[1]) : 0.0f);
#pragma GCC unroll 2
    for (uint32_t j = 0; j < block; j += 8, q += 8, out += 8) {
      const __m256 wide = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(load8(q)));
      _mm256_storeu_ps(out, _mm256_fmadd_ps(d, wide, m));
    }
  }
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
    case WeightType::w4:
      expand_w4_row(w, row, scratch);
      break;
    case WeightType::w8:
      expand_w8_row(w, row, scratch);
      break;
    case WeightType::f16:
      expand_f16_row(w, row, scratch);
      break;
    case WeightType::bf16:
      expand_bf16_row(w, row, scratch);
      break;
    case WeightType::f32:
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

}  // namespace

void matmul_avx2(const Weight& w, const float* x, uint32_t n, uint32_t row_begin, uint32_t row_end,
                 float* y, float* scratch) {
  const size_t step = w.n_rows;
  for (uint32_t r = row_begin; r < row_end; ++r) {
    const float* row = expand_row(w, r, scratch);
    uint32_t m = 0;
    for (; m + 3 <= n; m += 3) {
      dot_rows<3>(row, x + size_t{m} * w.n_cols, w.n_cols, y + m * step + r, step);
    }
    if (m + 2 == n) dot_rows<2>(row, x + size_t{m} * w.n_cols, w.n_cols, y + m * step + r, step);
    if (m + 1 == n) dot_rows<1>(row, x + size_t{m} * w.n_cols, w.n_cols, y + m * step + r, step);
  }
}

}  // namespace polykv
