// Tiles of codes to points as bytes, with AVX-512. LookUp turns codes into points; it differs among
// CPUs, and keeps what is instantiated here apart (reader/split_walk.h). Internal to reader/.
#pragma once

#include <immintrin.h>

#include "reader/avx512_block.h"
#include "reader/avx512_codes.h"

namespace polykv {

template <class LookUp>
struct Avx512Decode {
  using Scratch = avx512::Scratch;
  using Block = avx2::Block;

  // One step's share of the first half of the tile to come; what is done with the points asks for
  // the other half. Inlined early, or g++ 12 drops it as a function without effect.
  template <int Bits>
  [[gnu::always_inline]] static void fetch(const Scratch& scratch, uint32_t step) {
    if (scratch.ahead == nullptr) return;
    const uint8_t* at = scratch.ahead + size_t{step} * 16 * Bits;
    _mm_prefetch(reinterpret_cast<const char*>(at), _MM_HINT_T0);
    if (Bits == 8) _mm_prefetch(reinterpret_cast<const char*>(at + 64), _MM_HINT_T0);
  }

  // Points of one run of the narrower field of a full tile, and of the runs after it.
  template <int Bits, int Run>
  static void decode_runs(const uint8_t* tile, uint32_t n_codes, const LookUp& book,
                          const Scratch& scratch, uint8_t* out) {
    using Field = CodeFields<Bits>;
    constexpr int kWidth = Field::kWidth;
    const uint32_t bytes = n_codes * kWidth / 8, low_bytes = n_codes * Field::kLow / 8;
    const uint8_t *low = tile + Run * bytes % low_bytes, *high = tile + low_bytes;
    for (uint32_t i = 0; i < bytes; i += 256) {
      fetch<Bits>(scratch, (Run * bytes + i) / 256);
#pragma GCC unroll 4
      for (uint32_t j = i; j < i + 256; j += 64) {
        const __m512i codes = Field::template codes<Run>(low + j, high + j);
        _mm512_storeu_si512(out + Run * bytes + j, book.template points<Bits>(codes));
      }
    }
    if constexpr ((Run + 1) * kWidth < 8)
      decode_runs<Bits, Run + 1>(tile, n_codes, book, scratch, out);
  }

  template <int Bits>
  static void decode(const PlaneView& plane, const Block& block, bool is_signed,
                     const Scratch& scratch, uint8_t* out) {
    const LookUp book(Bits, is_signed);
    const uint8_t* tile = avx2::tile_of(plane, block);
    const uint32_t dim = plane.shape.head_dim;
    if (block.rows == kTileRows)
      return decode_runs<Bits, 0>(tile, kTileRows * dim, book, scratch, out);
    const uint32_t rows = plane.shape.kind == PlaneKind::v ? (block.rows + 3) / 4 * 4 : block.rows;
    avx2::unpack(tile, Bits, rows * dim, scratch.codes);
    for (uint32_t i = 0; i < rows * dim; i += 64) {
      const __m512i codes = _mm512_loadu_si512(scratch.codes + i);
      _mm512_storeu_si512(out + i, book.template points<Bits>(codes));
    }
  }

  // Points of a block's tile, one a byte, in the order of the codes.
  static const uint8_t* points(const PlaneView& plane, const Block& block, bool is_signed,
                               const Scratch& scratch) {
    auto* out = reinterpret_cast<uint8_t*>(scratch.tile);
    if (code_bits(plane.shape.codec) == 8 && !is_signed && block.rows == kTileRows) {
      for (uint32_t i = 0; i < plane.shape.head_dim / 4; ++i) fetch<8>(scratch, i);
      return avx2::tile_of(plane, block);
    }
    with_bits(plane, [&](auto bits) {
      decode<decltype(bits)::kBits>(plane, block, is_signed, scratch, out);
    });
    return out;
  }
};

}  // namespace polykv
