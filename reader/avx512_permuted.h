// Points of codes with VBMI: one permutation looks up 64 codes in a book of 64 points. Anonymous,
// so that what is instantiated with it stays with its file. Internal to reader/.
#pragma once

#include <immintrin.h>

#include "reader/avx2_tiles.h"

namespace polykv {
namespace {

class Permuted {
 public:
  Permuted(int bits, bool is_signed) : book_(_mm512_setzero_si512()) {
    const __m512i flip = _mm512_set1_epi8(static_cast<char>(128));
    if (bits == 8) {
      if (is_signed) book_ = flip;
      return;
    }
    book_ = _mm512_loadu_si512(avx2::byte_book(bits).points);
    if (!is_signed) book_ = _mm512_xor_si512(book_, flip);
  }

  // Points of codes, one in the low bits of each byte. What lies above is ignored: the permutation
  // looks at six bits, and shorter books are repeated.
  template <int Bits>
  __m512i points(__m512i codes) const {
    if constexpr (Bits == 8) return _mm512_xor_si512(codes, book_);
    return _mm512_permutexvar_epi8(codes, book_);
  }

 private:
  __m512i book_;  // 8 bits: from code to point
};

}  // namespace
}  // namespace polykv
