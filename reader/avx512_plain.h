// Plain rows (f32, f16, sinks, paper) and the softmax with AVX-512, in f32. Tag keeps what is
// instantiated for one CPU apart (reader/split_walk.h).
#pragma once

#include <immintrin.h>

#include "reader/split_walk.h"

namespace polykv {

template <class Tag>
struct Avx512Plain {
  static constexpr uint32_t kStep = 64;

  // Keeps g++ 12 from loading the operand again for every query.
  static void keep(__m512& operand) { asm("" : "+v"(operand)); }

  // Scores of N queries against 64 tokens of a tile.
  template <int N>
  static void score_tokens(const float* tile, const float* scale, uint32_t dim, const float* q,
                           float* scores) {
    __m512 sum[N][4];
    for (auto& row : sum) {
      for (__m512& lanes : row) lanes = _mm512_setzero_ps();
    }
    for (uint32_t d = 0; d < dim; ++d, tile += avx2::kTileLd) {
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        __m512 k = _mm512_loadu_ps(tile + 16 * v);
        keep(k);
#pragma GCC unroll 3
        for (int i = 0; i < N; ++i) {
          sum[i][v] = _mm512_fmadd_ps(_mm512_set1_ps(q[i * dim + d]), k, sum[i][v]);
        }
      }
    }
    for (int i = 0; i < N; ++i) {
      for (int v = 0; v < 4; ++v) {
        const __m512 score = _mm512_mul_ps(sum[i][v], _mm512_loadu_ps(scale + 16 * v));
        _mm512_storeu_ps(scores + i * avx2::kScoreStride + 16 * v, score);
      }
    }
  }

  // Adds weights[t] * v[t] for tokens [0, n) and 64 dimensions to N accumulators.
  template <int N>
  static void add_tokens(const float* v, uint32_t dim, const float* weights, uint32_t n,
                         float* acc) {
    __m512 sum[N][4];
    for (auto& row : sum) {
      for (__m512& lanes : row) lanes = _mm512_setzero_ps();
    }
    for (uint32_t t = 0; t < n; ++t, v += dim) {
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        __m512 value = _mm512_loadu_ps(v + 16 * j);
        keep(value);
#pragma GCC unroll 3
        for (int i = 0; i < N; ++i) {
          const __m512 weight = _mm512_set1_ps(weights[i * avx2::kScoreStride + t]);
          sum[i][j] = _mm512_fmadd_ps(weight, value, sum[i][j]);
        }
      }
    }
    for (int i = 0; i < N; ++i) {
      for (int j = 0; j < 4; ++j) {
        float* out = acc + i * dim + 16 * j;
        _mm512_storeu_ps(out, _mm512_add_ps(_mm512_loadu_ps(out), sum[i][j]));
      }
    }
  }

  // exp(x) for x <= 0, to about 1e-7: 2^n times a Taylor polynomial on |r| <= ln(2)/2.
  static __m512 exp_negative(__m512 x) {
    const __m512 low = _mm512_max_ps(x, _mm512_set1_ps(-104.0f));
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(low, _mm512_set1_ps(1.44269504f)),
                                          _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), low);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 y = _mm512_set1_ps(1.0f / 720);
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 120));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 24));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 6));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0.5f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f));
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(y, n);
  }

  // Lanes of [i, n): all, or the first ones.
  static __mmask16 lanes(uint32_t i, uint32_t n) {
    return n - i >= 16 ? __mmask16(0xffff) : static_cast<__mmask16>((1u << (n - i)) - 1);
  }

  static float largest(const float* x, uint32_t n) {
    const __m512 none = _mm512_set1_ps(-__builtin_inff());
    __m512 top = none;
    for (uint32_t i = 0; i < n; i += 16) {
      top = _mm512_max_ps(top, _mm512_mask_loadu_ps(none, lanes(i, n), x + i));
    }
    return _mm512_reduce_max_ps(top);
  }

  // x[i] = exp(x[i] - top) for i < n; returns their sum. What lies past n is kept.
  static float exponentiate(float* x, uint32_t n, float top) {
    __m512 sum = _mm512_setzero_ps();
    for (uint32_t i = 0; i < n; i += 16) {
      const __mmask16 there = lanes(i, n);
      const __m512 scores = _mm512_maskz_loadu_ps(there, x + i);
      const __m512 weights = exp_negative(_mm512_sub_ps(scores, _mm512_set1_ps(top)));
      sum = _mm512_mask_add_ps(sum, there, sum, weights);
      _mm512_mask_storeu_ps(x + i, there, weights);
    }
    return _mm512_reduce_add_ps(sum);
  }

  static float add_up(const float* x, uint32_t n) {
    __m512 sum = _mm512_setzero_ps();
    for (uint32_t i = 0; i < n; i += 16) {
      sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(lanes(i, n), x + i));
    }
    return _mm512_reduce_add_ps(sum);
  }

  // As avx2::weigh. The sinks' weights do not count for the mean of V.
  static void weigh(const SplitCall& call, float* scores) {
    const uint32_t n_rows = call.row_end - call.row_begin;
    const uint32_t n_sinks = call.v->shape.n_sinks;
    const uint32_t sinks_end = n_sinks < call.row_end ? n_sinks : call.row_end;
    const uint32_t skip = sinks_end > call.row_begin ? sinks_end - call.row_begin : 0;
    for (uint32_t query = 0; query < call.n_queries; ++query, scores += avx2::kScoreStride) {
      call.max[query] = largest(scores, n_rows);
      call.sum[query] = exponentiate(scores, n_rows, call.max[query]);
      const float coded = skip == 0 ? call.sum[query] : add_up(scores + skip, n_rows - skip);
      avx2::start_values(call, query, coded);
    }
  }
};

}  // namespace polykv
