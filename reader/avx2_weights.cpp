// Scores to weights with AVX2: maximum, exponential, sums. All queries alike, in a fixed order.
// As in attend_avx2.cpp, nothing from the standard library is instantiated here.
#include "reader/avx2_weights.h"

#include <immintrin.h>

namespace polykv::avx2 {
namespace {

// exp(x) for x <= 0, to about 1e-7: 2^n times a Taylor polynomial on |r| <= ln(2)/2.
__m256 exp_negative(__m256 x) {
  const __m256 floor = _mm256_set1_ps(-87.0f);
  const __m256 n =
      _mm256_round_ps(_mm256_mul_ps(_mm256_max_ps(x, floor), _mm256_set1_ps(1.44269504f)),
                      _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), _mm256_max_ps(x, floor));
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
  __m256 y = _mm256_set1_ps(1.0f / 5040);
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(1.0f / 720));
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(1.0f / 120));
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(1.0f / 24));
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(1.0f / 6));
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(0.5f));
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(1.0f));
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(1.0f));
  const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
  y = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(y), exponent));
  return _mm256_and_ps(y, _mm256_cmp_ps(x, floor, _CMP_GE_OQ));
}

// All ones in the first `n` lanes.
__m256 first_lanes(uint32_t n) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane));
}

float add_lanes(__m256 x) {
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

float top_lane(__m256 x) {
  __m128 top = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  top = _mm_max_ps(top, _mm_movehl_ps(top, top));
  return _mm_cvtss_f32(_mm_max_ss(top, _mm_movehdup_ps(top)));
}

float largest(const float* x, uint32_t n) {
  __m256 top = _mm256_set1_ps(-__builtin_inff());
  for (uint32_t i = 0; i < n; i += 8) {
    const __m256 lanes = _mm256_blendv_ps(top, _mm256_loadu_ps(x + i), first_lanes(n - i));
    top = _mm256_max_ps(top, lanes);
  }
  return top_lane(top);
}

// x[i] = exp(x[i] - top) for i < n; returns their sum. What lies past n is kept.
float exponentiate(float* x, uint32_t n, float top) {
  __m256 sum = _mm256_setzero_ps();
  for (uint32_t i = 0; i < n; i += 8) {
    const __m256 inside = first_lanes(n - i);
    const __m256 old = _mm256_loadu_ps(x + i);
    const __m256 weight = exp_negative(_mm256_sub_ps(old, _mm256_set1_ps(top)));
    sum = _mm256_add_ps(sum, _mm256_and_ps(weight, inside));
    _mm256_storeu_ps(x + i, _mm256_blendv_ps(old, weight, inside));
  }
  return add_lanes(sum);
}

float add_up(const float* x, uint32_t n) {
  __m256 sum = _mm256_setzero_ps();
  for (uint32_t i = 0; i < n; i += 8) {
    sum = _mm256_add_ps(sum, _mm256_and_ps(_mm256_loadu_ps(x + i), first_lanes(n - i)));
  }
  return add_lanes(sum);
}

}  // namespace

SplitScratch cut_scratch(const SplitCall& call) {
  const size_t dim = call.k->shape.head_dim, n = call.n_queries;
  const size_t past_line = reinterpret_cast<uintptr_t>(call.scratch) % 64;
  SplitScratch s{};
  s.scores = call.scratch + (64 - past_line) % 64 / sizeof(float);
  s.tile = s.scores + n * kScoreStride;
  float* codes = s.tile + kTileRows * dim;
  float* q = codes + kTileRows * dim / 4 + 16;
  float* weights = q + n * dim / 2;
  s.codes = reinterpret_cast<uint8_t*>(codes);
  s.q = reinterpret_cast<int8_t*>(q);
  s.weights = reinterpret_cast<int8_t*>(weights);
  s.q_step = weights + n * kTileRows / 2;
  s.p_step = s.q_step + n;
  s.q_start = reinterpret_cast<int32_t*>(s.p_step + n);
  return s;
}

void start_values(const SplitCall& call, uint32_t query, float coded) {
  const PlaneView& v = *call.v;
  const uint32_t dim = v.shape.head_dim;
  float* acc = call.acc + size_t{query} * dim;
  float* rotated = call.acc_rotated + size_t{query} * dim;
  for (uint32_t d = 0; d < dim; ++d) {
    acc[d] = v.mean == nullptr ? 0.0f : coded * v.mean[d];
    rotated[d] = 0;
  }
}

void weigh(const SplitCall& call, float* scores) {
  const uint32_t n_rows = call.row_end - call.row_begin;
  const uint32_t n_sinks = call.v->shape.n_sinks;
  const uint32_t sinks_end = n_sinks < call.row_end ? n_sinks : call.row_end;
  const uint32_t skip = sinks_end > call.row_begin ? sinks_end - call.row_begin : 0;
  for (uint32_t query = 0; query < call.n_queries; ++query, scores += kScoreStride) {
    call.max[query] = largest(scores, n_rows);
    call.sum[query] = exponentiate(scores, n_rows, call.max[query]);
    start_values(call, query, add_up(scores + skip, n_rows - skip));
  }
}

void multiply(float* x, const float* factors, uint32_t n) {
  uint32_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 product = _mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_loadu_ps(factors + i));
    _mm256_storeu_ps(x + i, product);
  }
  for (; i < n; ++i) x[i] *= factors[i];
}

}  // namespace polykv::avx2
