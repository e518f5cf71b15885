// Powers of 2 as weights, and weights as bytes, with AVX-512. As in avx512_sums.h, all is inlined
// always. Internal to reader/.
#pragma once

#include <immintrin.h>

#include "reader/avx512_block.h"

namespace polykv::avx512 {

inline constexpr float kFar = 0x1p20f;  // sums of weights that call for a new reference

// Kinds of weights, and 2^x by a polynomial of x - floor(x) that is exact at 0. Its largest error:
// 8.6e-5 (a twentieth of what rounding to bytes may be), 8.2e-8, 2.0e-9.
struct Bytes {
  static constexpr float kMost = 255.0f;
  static constexpr float kPolynomial[] = {7.706721284e-2f, 2.276448050e-1f, 6.951168284e-1f, 1.0f};
};
struct BytePairs {
  static constexpr float kMost = 65535.0f;
  static constexpr float kPolynomial[] = {1.867130072e-3f, 9.017030316e-3f, 5.579991311e-2f,
                                          2.401644502e-1f, 6.931513118e-1f, 1.0f};
};
struct Floats {
  static constexpr float kMost = 1.0f;
  static constexpr float kPolynomial[] = {2.161291495e-4f,
                                          1.246784645e-3f,
                                          9.675451567e-3f,
                                          5.548528062e-2f,
                                          2.402293056e-1f,
                                          6.931470444e-1f,
                                          1.0f};
};

// 2^x; 0 where not `there`.
template <class Kind>
[[gnu::always_inline]] inline __m512 power(__mmask16 there, __m512 x) {
  constexpr int kFloor = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
  const __m512 r = _mm512_reduce_ps(x, kFloor);
  __m512 y = _mm512_set1_ps(Kind::kPolynomial[0]);
  constexpr int kDegree = sizeof Kind::kPolynomial / sizeof(float) - 1;
#pragma GCC unroll 8
  for (int i = 1; i <= kDegree; ++i) {
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(Kind::kPolynomial[i]));
  }
  return _mm512_maskz_scalef_ps(there, y, x);  // y * 2^floor(x)
}

// Order of groups of 4 numbers behind packs, and of packs behind groups: a transposition.
[[gnu::always_inline]] inline __m512i pack_order() {
  return _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
}
// 64 numbers up to 255, in order.
[[gnu::always_inline]] inline __m512i bytes_of(const __m512i (&x)[4]) {
  const __m512i a = _mm512_packus_epi32(x[0], x[1]), b = _mm512_packus_epi32(x[2], x[3]);
  return _mm512_permutexvar_epi32(pack_order(), _mm512_packus_epi16(a, b));
}

// Weights as they are multiplied: bytes, hi before lo.
[[gnu::always_inline]] inline void put(Bytes, const __m512i (&x)[4], float* out) {
  _mm512_store_si512(out, bytes_of(x));
}
[[gnu::always_inline]] inline void put(BytePairs, const __m512i (&x)[4], float* out) {
  const __m512i low = _mm512_set1_epi32(255);
  __m512i hi[4], lo[4];
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    hi[v] = _mm512_srli_epi32(x[v], 8);
    lo[v] = _mm512_and_si512(x[v], low);
  }
  _mm512_store_si512(out, bytes_of(hi));
  _mm512_store_si512(out + 16, bytes_of(lo));
}

// Two vectors with maxima of pairs of their parts of 128 bits, those of a before those of b.
template <int Even, int Odd>
[[gnu::always_inline]] inline __m512 join_parts(__m512 a, __m512 b) {
  return _mm512_max_ps(_mm512_shuffle_f32x4(a, b, Even), _mm512_shuffle_f32x4(a, b, Odd));
}
// Maxima of 4 vectors, each left in 4 lanes of its own.
[[gnu::always_inline]] inline __m512 join_four(const float* x, int apart) {
  const __m512 a = join_parts<0x44, 0xee>(_mm512_load_ps(x), _mm512_load_ps(x + apart));
  const __m512 b =
      join_parts<0x44, 0xee>(_mm512_load_ps(x + 2 * apart), _mm512_load_ps(x + 3 * apart));
  return join_parts<0x88, 0xdd>(a, b);
}
[[gnu::always_inline]] inline __m512 largest_of_four(const float* x) {
  __m512 a = join_four(x, 16);
  a = _mm512_max_ps(a, _mm512_permute_ps(a, 0x4e));
  a = _mm512_max_ps(a, _mm512_permute_ps(a, 0xb1));
  return _mm512_permutexvar_ps(pack_order(), a);
}
// 1 / x, to 1e-7.
[[gnu::always_inline]] inline __m512 inverse(__m512 x) {
  const __m512 near = _mm512_rcp14_ps(x);
  return _mm512_mul_ps(near, _mm512_fnmadd_ps(x, near, _mm512_set1_ps(2.0f)));
}

// Lanes 0 to 3: the largest product of 4 queries' weights; its inverse, for integers up to kMost.
struct Rounding {
  __m512 gain, per_one;
};
template <class Kind>
[[gnu::always_inline]] inline Rounding rounding_of(__m512 top) {
  const __m512 some = _mm512_max_ps(top, _mm512_set1_ps(1e-30f));  // of values that are all zero
  return {_mm512_mul_ps(some, _mm512_set1_ps(1 / Kind::kMost)),
          _mm512_mul_ps(inverse(some), _mm512_set1_ps(Kind::kMost))};
}
template <class Kind>
[[gnu::always_inline]] inline void round_weights(float* weights, __m512 per_one) {
  __m512i x[4];
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    x[v] = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_load_ps(weights + 16 * v), per_one));
  }
  put(Kind{}, x, weights);
}

}  // namespace polykv::avx512
