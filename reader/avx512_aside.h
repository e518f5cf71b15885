// Weights of one tile of codes for few queries, made piece by piece between the products of other
// tiles: each waits long for the one before it, and a CPU looks ahead for other work only so far.
// Internal to reader/.
#pragma once

#include <immintrin.h>

#include "reader/avx512_powers.h"

namespace polykv::avx512 {

inline constexpr uint32_t kAsideMost = 4;  // queries

// What a pass over a tile does meanwhile: nothing.
struct Idle {
  static constexpr bool kBusy = false;
};

// A whole tile's weights as bytes, relative to the queries' references.
struct Aside {
  const BlockFacts* facts;
  const int32_t* products;  // [n, kProductStride]
  const float *step, *off;  // [n]
  float* weights;           // [n, kWeightStride]
  float* tops;              // [kAsideMost, 16]: largest weights; then, factors that make integers
  float *lanes, *gain;      // as in the scratch
  uint32_t n;

  [[gnu::always_inline]] void start() const {
    for (uint32_t i = n; i < kAsideMost; ++i) _mm512_store_ps(tops + 16 * i, _mm512_setzero_ps());
  }
  // Sixteen products of a query.
  [[gnu::always_inline]] void raise(uint32_t query, uint32_t first) const {
    const __m512i product = _mm512_load_si512(products + query * kProductStride + first);
    const __m512 number = _mm512_mul_ps(_mm512_cvtepi32_ps(product), _mm512_set1_ps(step[query]));
    const __m512 p = power<Bytes>(
        0xffff,
        _mm512_fmadd_ps(number, _mm512_load_ps(facts->scale + first), _mm512_set1_ps(off[query])));
    float* of_query = weights + query * kWeightStride;
    float* sum = of_query + kWeightSums;
    _mm512_store_ps(sum, first == 0 ? p : _mm512_add_ps(_mm512_load_ps(sum), p));
    const __m512 weight = _mm512_mul_ps(p, _mm512_load_ps(facts->value + first));
    _mm512_store_ps(of_query + first, weight);
    float* top = tops + 16 * query;
    _mm512_store_ps(top, first == 0 ? weight : _mm512_max_ps(_mm512_load_ps(top), weight));
  }
  [[gnu::always_inline]] bool far() const {
    __m512 most = _mm512_setzero_ps();
    for (uint32_t i = 0; i < n; ++i) {
      most = _mm512_max_ps(most, _mm512_load_ps(weights + i * kWeightStride + kWeightSums));
    }
    return _mm512_cmp_ps_mask(most, _mm512_set1_ps(kFar), _CMP_GT_OQ) != 0;
  }
  [[gnu::always_inline]] void start_rounding() const {
    const Rounding rounding = rounding_of<Bytes>(largest_of_four(tops));
    _mm_store_ps(gain, _mm512_castps512_ps128(rounding.gain));
    _mm512_store_ps(tops, rounding.per_one);
  }
  [[gnu::always_inline]] void round(uint32_t query) const {
    float* of_query = weights + query * kWeightStride;
    float* lane = lanes + 16 * query;
    _mm512_store_ps(lane,
                    _mm512_add_ps(_mm512_load_ps(lane), _mm512_load_ps(of_query + kWeightSums)));
    round_weights<Bytes>(of_query, _mm512_set1_ps(tops[query]));
  }
};

// In 4 times 4 steps.
template <uint32_t N>
struct Raising {
  static constexpr bool kBusy = true;
  const Aside aside;
  [[gnu::always_inline]] void operator()(uint32_t four, uint32_t step) const {
    if (four < N) aside.raise(four, 16 * step);
  }
};
template <uint32_t N>
struct Filling {
  static constexpr bool kBusy = true;
  const Aside aside;
  [[gnu::always_inline]] void operator()(uint32_t four, uint32_t step) const {
    if (step % 2 != 0) return;
    const uint32_t query = 2 * four + step / 2 - 2;
    if (four == 0 && step == 0) return aside.start_rounding();
    if (four > 0 && query < N) aside.round(query);
  }
};

// Where scores lie far above a query's reference. pending: gains of a block before, not yet added.
void renew_few(const SplitCall& call, const Scratch& scratch, const Aside& aside, float* pending);

}  // namespace polykv::avx512
