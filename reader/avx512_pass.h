// One pass over the codes of a whole tile with AVX-512 and VNNI: points go from the look-up
// straight to the products, and are never stored. LookUp keeps what is instantiated for one CPU
// apart (reader/split_walk.h). Internal to reader/.
#pragma once

#include <immintrin.h>

#include "reader/avx512_codes.h"
#include "reader/avx512_sums.h"

namespace polykv {

template <class LookUp>
struct Avx512Pass {
  const uint8_t* tile;
  uint32_t dim, d;  // of V: 64 dimensions from d on
  avx512::Rows rows;
  const uint8_t* ahead;  // what to ask for meanwhile
  uint32_t ahead_step;   // bytes of it with each step

  // Asks for memory. Inlined early, or g++ 12 drops it as a function without effect.
  [[gnu::always_inline]] static void fetch(const uint8_t* at) {
    _mm_prefetch(reinterpret_cast<const char*>(at), _MM_HINT_T0);
  }
  // The lines that begin in a step's share of what is ahead.
  [[gnu::always_inline]] void fetch(uint32_t step) const {
    const uint32_t end = (step + 1) * ahead_step;
    for (uint32_t at = (step * ahead_step + 63) / 64 * 64; at < end; at += 64) {
      fetch(ahead + at);
    }
  }

  // Products of one run of the narrower field, 256 codes a step, and of the runs after it.
  template <PlaneKind Kind, int Bits, int Turn, int Planes, int N>
  [[gnu::always_inline]] void add_runs(const LookUp& book, avx512::Sums<N>& sums) const {
    using Field = CodeFields<Bits>;
    const uint32_t n_codes = kTileRows * dim, low_bytes = n_codes * Field::kLow / 8;
    constexpr bool kKeys = Kind == PlaneKind::k;
    const uint32_t steps = (kKeys ? dim : 64) / 32 * Field::kWidth;
    const uint32_t apart = kKeys ? 256 : 4 * dim;
    const uint8_t* low = tile + Turn * (n_codes * Field::kWidth / 8) % low_bytes + 4 * d;
    const uint8_t* high = tile + low_bytes + 4 * d;
    for (uint32_t i = 0; i < steps; ++i, low += apart, high += apart) {
      const uint32_t step = Turn * steps + i;
      fetch(step);
      avx512::Four four = {
          book.template points<Bits>(Field::template codes<Turn>(low, high)),
          book.template points<Bits>(Field::template codes<Turn>(low + 64, high + 64)),
          book.template points<Bits>(Field::template codes<Turn>(low + 128, high + 128)),
          book.template points<Bits>(Field::template codes<Turn>(low + 192, high + 192))};
      // Keeps g++ 12 from finding them again for every row.
      asm("" : "+v"(four.v0), "+v"(four.v1), "+v"(four.v2), "+v"(four.v3));
      avx512::add_step<Kind, Planes, N>(sums, four, rows, step);
    }
    if constexpr ((Turn + 1) * Field::kWidth < 8) {
      add_runs<Kind, Bits, Turn + 1, Planes, N>(book, sums);
    }
  }
};

}  // namespace polykv
