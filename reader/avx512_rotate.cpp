// The Hadamard transform with AVX-512, to the same bits as polykv::hadamard: the same additions.
// As in attend_avx512.cpp, nothing from the standard library is instantiated here.
#include <immintrin.h>

#include "reader/attend.h"

namespace polykv {
namespace {

// Sums and differences of lanes that are `Half` apart: the upper of two becomes lower - upper.
template <int Half>
[[gnu::always_inline]] inline __m512 in_lanes(__m512 x) {
  constexpr __mmask16 kUpper = Half == 1   ? 0xaaaa
                               : Half == 2 ? 0xcccc
                               : Half == 4 ? 0xf0f0
                                           : 0xff00;
  __m512 other;
  if constexpr (Half == 1) {
    other = _mm512_permute_ps(x, 0xb1);
  } else if constexpr (Half == 2) {
    other = _mm512_permute_ps(x, 0x4e);
  } else {
    other = _mm512_shuffle_f32x4(x, x, Half == 4 ? 0xb1 : 0x4e);
  }
  return _mm512_mask_sub_ps(_mm512_add_ps(x, other), kUpper, other, x);
}

template <int N>  // vectors
void transform(float* x) {
  __m512 v[N];
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) {
    v[i] = in_lanes<8>(in_lanes<4>(in_lanes<2>(in_lanes<1>(_mm512_loadu_ps(x + 16 * i)))));
  }
#pragma GCC unroll 4
  for (int half = 1; half < N; half *= 2) {
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) {
      if ((i & half) != 0) continue;
      const __m512 a = v[i], b = v[i + half];
      v[i] = _mm512_add_ps(a, b);
      v[i + half] = _mm512_sub_ps(a, b);
    }
  }
  const __m512 n = _mm512_set1_ps(16.0f * N);
  const __m512 norm = _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_sqrt_ps(n));
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) _mm512_storeu_ps(x + 16 * i, _mm512_mul_ps(v[i], norm));
}

}  // namespace

void hadamard_avx512(float* x, uint32_t n) {
  if (n == 64) return transform<4>(x);
  if (n == 128) return transform<8>(x);
  if (n == 256) return transform<16>(x);
  hadamard(x, n);
}

}  // namespace polykv
