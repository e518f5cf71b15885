// Attention of a split with AVX-512 (F, BW, DQ, VL) and VNNI: tiles of codes in integers, all else
// in f32. Points of codes are looked up 16 at a time within a quarter of a register.
//
// This file is compiled for a CPU that may not be the one at hand: nothing from the standard
// library that could be merged with another file's copy may be instantiated here.
#include <immintrin.h>

#include "reader/avx512_walk.h"

namespace polykv {
namespace {

class Shuffled {
 public:
  Shuffled(int bits, bool is_signed) : flip_(_mm512_set1_epi8(static_cast<char>(128))) {
    if (bits == 8) {
      if (!is_signed) flip_ = _mm512_setzero_si512();
      return;
    }
    const __m512i to_unsigned = is_signed ? _mm512_setzero_si512() : flip_;
    const int8_t* points = avx2::byte_book(bits).points;
    for (int i = 0; i < 4; ++i) {
      const auto* sixteen = reinterpret_cast<const __m128i*>(points + 16 * i);
      part_[i] = _mm512_broadcast_i32x4(_mm_loadu_si128(sixteen));
      part_[i] = _mm512_xor_si512(part_[i], to_unsigned);
    }
  }

  // Points of codes, one in the low bits of each byte; what lies above is ignored.
  template <int Bits>
  __m512i points(__m512i codes) const {
    if constexpr (Bits == 8) return _mm512_xor_si512(codes, flip_);
    constexpr auto kMask = static_cast<char>(Bits <= 4 ? 15 : (1 << Bits) - 1);
    const __m512i index = _mm512_and_si512(codes, _mm512_set1_epi8(kMask));
    __m512i found = _mm512_shuffle_epi8(part_[0], index);
    if constexpr (Bits >= 5) {
      const __mmask64 odd = _mm512_test_epi8_mask(index, _mm512_set1_epi8(16));
      found = _mm512_mask_shuffle_epi8(found, odd, part_[1], index);
      if constexpr (Bits == 6) {
        __m512i upper = _mm512_shuffle_epi8(part_[2], index);
        upper = _mm512_mask_shuffle_epi8(upper, odd, part_[3], index);
        const __mmask64 above = _mm512_test_epi8_mask(index, _mm512_set1_epi8(32));
        found = _mm512_mask_blend_epi8(above, found, upper);
      }
    }
    return found;
  }

 private:
  __m512i part_[4];
  __m512i flip_;  // 8 bits: from code to point
};

}  // namespace

void attend_split_avx512(const SplitCall& call) {
  Avx512Walk<Shuffled, avx512::Vnni>::attend(call);
}

}  // namespace polykv
