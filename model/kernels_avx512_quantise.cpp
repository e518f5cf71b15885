// Rows of activations as integers with AVX-512 (F, BW, DQ, VL). As in kernels_avx2.cpp, nothing
// from elsewhere is instantiated here.
#include <immintrin.h>

#include "model/kernels.h"

namespace polykv {
namespace {

// 32 columns: q of the first and the second 16.
struct Halves {
  __m512i first, second;
};

uint32_t largest_bits(__m512 first, __m512 second) {
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  const __m512i top = _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(first), magnitude),
                                       _mm512_and_si512(_mm512_castps_si512(second), magnitude));
  const __m256i eight =
      _mm256_max_epi32(_mm512_castsi512_si256(top), _mm512_extracti64x4_epi64(top, 1));
  __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0xb1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(four));
}

void store_facts(__m512i wide, BlockFacts* facts) {
  const __m512i pairs = _mm512_madd_epi16(wide, _mm512_set1_epi16(1));
  const __m256i eight =
      _mm256_hadd_epi32(_mm512_castsi512_si256(pairs), _mm512_extracti64x4_epi64(pairs, 1));
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1));  // s0, s0, s1, s1
  const __m128i all = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  const __m128i three = _mm_blend_epi16(_mm_shuffle_epi32(four, 0x20), all, 0x03);
  const __m128 sums = _mm_mul_ps(_mm_set1_ps(facts->scale), _mm_cvtepi32_ps(three));
  const __m128i zeros = _mm_sub_epi32(_mm_setzero_si128(), _mm_slli_epi32(three, 7));
  _mm_storeu_ps(facts->sums, sums);  // and one more, where zeros follow
  _mm_storeu_si128(reinterpret_cast<__m128i*>(facts->zeros), _mm_maskz_mov_epi32(7, zeros));
}

// The lower byte of q is lo already, as a signed number.
void store_planes(const Halves& q, int8_t* planes) {
  const __m512i half = _mm512_set1_epi32(128);
  const __m512i hi_first = _mm512_srai_epi32(_mm512_add_epi32(q.first, half), 8);
  const __m512i hi_second = _mm512_srai_epi32(_mm512_add_epi32(q.second, half), 8);
  auto* to = reinterpret_cast<__m128i*>(planes);
  _mm_store_si128(to, _mm512_cvtepi32_epi8(hi_first));
  _mm_store_si128(to + 1, _mm512_cvtepi32_epi8(hi_second));
  _mm_store_si128(to + 2, _mm512_cvtepi32_epi8(q.first));
  _mm_store_si128(to + 3, _mm512_cvtepi32_epi8(q.second));
}

void quantise_block(const Activations& x, uint32_t m, uint32_t b) {
  const size_t at = size_t{m} * x.n_blocks + b;
  const float* from = x.x + size_t{m} * x.n_cols + size_t{b} * 32;
  const uint32_t left = x.n_cols - b * 32;
  const uint32_t there = left < 32 ? (1u << left) - 1 : 0xffffffff;
  const __m512 first = _mm512_maskz_loadu_ps(static_cast<__mmask16>(there), from);
  const __m512 second = _mm512_maskz_loadu_ps(static_cast<__mmask16>(there >> 16), from + 16);
  BlockFacts* facts = x.facts + at;
  float inverse;
  set_block_scale(largest_bits(first, second), facts, &inverse);
  const __mmask16 finite = inverse != 0 ? 0xffff : 0;
  const __m512 by = _mm512_set1_ps(inverse);
  const Halves q{_mm512_maskz_cvtps_epi32(finite, _mm512_mul_ps(first, by)),
                 _mm512_maskz_cvtps_epi32(finite, _mm512_mul_ps(second, by))};
  const __m512i wide = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(q.first)),
                                          _mm512_cvtepi32_epi16(q.second), 1);
  _mm512_store_si512(x.wide + at * 32, wide);
  store_facts(wide, facts);
  store_planes(q, x.planes + at * 64);
}

}  // namespace

void quantise_avx512(const Activations& x, uint32_t begin, uint32_t end) {
  for (uint32_t m = begin; m < end; ++m) {
    for (uint32_t b = 0; b < x.n_blocks; ++b) quantise_block(x, m, b);
  }
}

}  // namespace polykv
