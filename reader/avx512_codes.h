// Packed codes of whole tiles, with AVX-512. All is inlined always: no copy may be merged with
// that of a file that is compiled for another CPU. Internal to reader/.
#pragma once

#include <immintrin.h>

#include "ipc/plane.h"

namespace polykv {

// How codes of a full tile are packed: one or two fields of 1, 2, 4 or 8 bits (docs/format.md). The
// narrower one is taken run by run, the bits of one shift.
template <int Bits>
struct CodeFields {
  static constexpr int kLow = Bits == 3 ? 2 : Bits == 5 || Bits == 6 ? 4 : Bits;
  static constexpr int kHigh = Bits - kLow;
  static constexpr int kWidth = kHigh > 0 ? kHigh : kLow;

  // 64 codes of a run, each in the low bits of a byte; what lies above is anything.
  template <int Run>
  [[gnu::always_inline]] static __m512i codes(const uint8_t* low, const uint8_t* high) {
    const __m512i lower = _mm512_srli_epi16(_mm512_loadu_si512(low), Run * kWidth / kLow * kLow);
    if constexpr (kHigh > 0) {
      __m512i upper = _mm512_srli_epi16(_mm512_loadu_si512(high), Run * kWidth);
      upper = _mm512_slli_epi16(upper, kLow);
      const __m512i is_low = _mm512_set1_epi8((1 << kLow) - 1);
      return _mm512_ternarylogic_epi32(is_low, lower, upper, 0xca);  // is_low ? lower : upper
    }
    return lower;
  }
};

template <int Bits>
struct CodeBits {
  static constexpr int kBits = Bits;
};
// Calls step(CodeBits<b>) for the bits of a rot<b> plane's codes.
template <class Step>
[[gnu::always_inline]] inline void with_bits(int bits, const Step& step) {
  switch (bits) {
    case 2:
      return step(CodeBits<2>{});
    case 3:
      return step(CodeBits<3>{});
    case 4:
      return step(CodeBits<4>{});
    case 5:
      return step(CodeBits<5>{});
    case 6:
      return step(CodeBits<6>{});
    default:
      return step(CodeBits<8>{});
  }
}
template <class Step>
[[gnu::always_inline]] inline void with_bits(const PlaneView& plane, const Step& step) {
  with_bits(code_bits(plane.shape.codec), step);
}

}  // namespace polykv
