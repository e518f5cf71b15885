// Numbers as f16 with AVX2 and F16C, to the same bits as polykv::to_halves.
// As in attend_avx2.cpp, nothing from the standard library is instantiated here.
#include <immintrin.h>

#include "reader/attend.h"

namespace polykv {

void to_halves_avx2(const float* x, uint32_t n, uint16_t* halves) {
  const __m256 most = _mm256_set1_ps(65504.0f), least = _mm256_set1_ps(-65504.0f);
  const __m128i nan = _mm_set1_epi16(0x7e00), sign = _mm_set1_epi16(static_cast<short>(0x8000));
  for (uint32_t i = 0; i < n; i += 8) {
    const __m256 whole = _mm256_loadu_ps(x + i);
    const __m256 tamed = _mm256_max_ps(least, _mm256_min_ps(most, whole));  // NaN stays
    __m128i half = _mm256_cvtps_ph(tamed, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    // One NaN for all.
    const __m128i wild = _mm_cmpgt_epi16(_mm_andnot_si128(sign, half), _mm_set1_epi16(0x7c00));
    half = _mm_blendv_epi8(half, _mm_or_si128(nan, _mm_and_si128(sign, half)), wild);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(halves + i), half);
  }
}

}  // namespace polykv
