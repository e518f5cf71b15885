// Scores to weights with AVX-512: maximum, exponential, sums. All queries alike, in a fixed order.
// As in attend_avx512.cpp, nothing from the standard library is instantiated here.
#include <immintrin.h>

#include "reader/avx512_coded.h"

namespace polykv::avx512 {
namespace {

// exp(x) for x <= 0, to about 1e-7: 2^n times a Taylor polynomial on |r| <= ln(2)/2.
__m512 exp_negative(__m512 x) {
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
__mmask16 lanes(uint32_t i, uint32_t n) {
  return n - i >= 16 ? __mmask16(0xffff) : static_cast<__mmask16>((1u << (n - i)) - 1);
}

// Four at a time: one would wait for the one before.
float largest(const float* x, uint32_t n) {
  const __m512 none = _mm512_set1_ps(-__builtin_inff());
  __m512 top[4] = {none, none, none, none};
  uint32_t i = 0;
  for (; i + 64 <= n; i += 64) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) top[v] = _mm512_max_ps(top[v], _mm512_loadu_ps(x + i + 16 * v));
  }
  for (; i < n; i += 16) {
    top[0] = _mm512_max_ps(top[0], _mm512_mask_loadu_ps(none, lanes(i, n), x + i));
  }
  return _mm512_reduce_max_ps(
      _mm512_max_ps(_mm512_max_ps(top[0], top[1]), _mm512_max_ps(top[2], top[3])));
}

// x[i] = exp(x[i] - top) for i < n; returns their sum. What lies past n is kept.
float exponentiate(float* x, uint32_t n, float top) {
  __m512 sum = _mm512_setzero_ps();
  uint32_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m512 weights = exp_negative(_mm512_sub_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(top)));
    sum = _mm512_add_ps(sum, weights);
    _mm512_storeu_ps(x + i, weights);
  }
  if (i < n) {
    const __mmask16 there = lanes(i, n);
    const __m512 scores = _mm512_maskz_loadu_ps(there, x + i);
    const __m512 weights = exp_negative(_mm512_sub_ps(scores, _mm512_set1_ps(top)));
    sum = _mm512_mask_add_ps(sum, there, sum, weights);
    _mm512_mask_storeu_ps(x + i, there, weights);
  }
  return _mm512_reduce_add_ps(sum);
}

float add_up(const float* x, uint32_t n) {
  __m512 sum = _mm512_setzero_ps();
  for (uint32_t i = 0; i < n; i += 16) {
    sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(lanes(i, n), x + i));
  }
  return _mm512_reduce_add_ps(sum);
}

}  // namespace

// The sinks' weights do not count for the mean of V.
void weigh(const SplitCall& call, float* scores) {
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

}  // namespace polykv::avx512
