// Splitting by AVX-512 BF16. As in kernels_avx2.cpp, nothing from elsewhere is instantiated here.
#include <immintrin.h>

#include "model/prefill_split.h"

namespace polykv {
namespace {

inline __m256i nearest(__m512 x) { return reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x)); }

inline __m512 widened(__m256i x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

}  // namespace

void split_avx512(const float* x, size_t n, uint16_t* hi, uint16_t* lo) {
  for (size_t i = 0; i < n; i += 16) {
    const auto mask = static_cast<__mmask16>(n - i >= 16 ? 0xffff : (1u << (n - i)) - 1);
    const __m512 all = _mm512_maskz_loadu_ps(mask, x + i);
    const __m256i high = nearest(all);
    _mm256_mask_storeu_epi16(hi + i, mask, high);
    _mm256_mask_storeu_epi16(lo + i, mask, nearest(_mm512_sub_ps(all, widened(high))));
  }
}

}  // namespace polykv
