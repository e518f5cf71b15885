// Whole tiles of codes that are passed over one after the other: what they have in common is found
// once. As in avx512_sums.h, no copy may be merged with that of a file that is compiled for another
// CPU. Internal to reader/.
#pragma once

#include <immintrin.h>

#include "reader/avx2_tiles.h"
#include "reader/avx512_pass.h"

namespace polykv {

// A plane's, of 64 dimensions. LookUp keeps what is instantiated for one CPU apart.
template <class LookUp>
struct Avx512Tiles {
  using Pass = Avx512Pass<LookUp>;
  static constexpr uint32_t kAhead = 4 * kTileRows;  // as in the walk

  LookUp book;
  const uint8_t *codes, *scales;  // of the row that the run begins with
  uint32_t first, end;            // that row, and the one behind the span
  uint32_t bytes;                 // of a tile
  int bits;

  Avx512Tiles(const SplitCall& call, const PlaneView& plane, uint32_t row, bool is_signed)
      : book(code_bits(plane.shape.codec), is_signed),
        codes(avx2::tile_of(plane, {row, kTileRows, row, row + kTileRows, true})),
        scales(plane.scales + (row - plane.shape.n_sinks)),
        first(row),
        end(call.span_end),
        bytes(kTileRows * 8 * static_cast<uint32_t>(code_bits(plane.shape.codec))),
        bits(code_bits(plane.shape.codec)) {}

  const uint8_t* at(uint32_t row) const { return codes + (row - first) / kTileRows * bytes; }
  // A pass over the tile at row, which asks for the one ahead; or, where none is, for itself.
  [[gnu::always_inline]] Pass pass(uint32_t row) const {
    const bool more = row + kAhead < end;
    if (more) Pass::fetch(scales + (row + kAhead - first));
    return {at(row), 64, 0, {}, at(more ? row + kAhead : row)};
  }
};

namespace avx512 {

// A whole tile's scales: of its keys times `unit`, of its values as they are stored.
[[gnu::always_inline]] inline void write_scales(const uint8_t* of_keys, const uint8_t* of_values,
                                                __m512 unit, BlockFacts* facts) {
#pragma GCC unroll 4
  for (int i = 0; i < 64; i += 16) {
    const auto* k = reinterpret_cast<const __m128i*>(of_keys + i);
    const auto* v = reinterpret_cast<const __m128i*>(of_values + i);
    const __m512 scale = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(k)));
    const __m512 value = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(v)));
    _mm512_store_ps(facts->scale + i, _mm512_mul_ps(scale, unit));
    _mm512_store_ps(facts->value + i, value);
  }
}

}  // namespace avx512
}  // namespace polykv
