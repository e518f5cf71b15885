// One pass over the codes of a whole tile with AVX-512 and VNNI: points go from the look-up
// straight to the products, and are never stored. LookUp keeps what is instantiated for one CPU
// apart (reader/split_walk.h). Internal to reader/.
#pragma once

#include <immintrin.h>

#include "reader/avx512_aside.h"
#include "reader/avx512_codes.h"
#include "reader/avx512_sums.h"

namespace polykv {

template <class LookUp>
struct Avx512Pass {
  const uint8_t* tile;
  uint32_t dim, d;  // of V: 64 dimensions from d on
  avx512::Rows rows;
  const uint8_t* ahead;  // what to ask for meanwhile

  // Asks for memory. Inlined early, or g++ 12 drops it as a function without effect.
  [[gnu::always_inline]] static void fetch(const uint8_t* at) {
    _mm_prefetch(reinterpret_cast<const char*>(at), _MM_HINT_T0);
  }
  // A step's share of what is ahead.
  template <int Bits>
  [[gnu::always_inline]] void fetch(uint32_t step) const {
    constexpr uint32_t kShare = kTileRows / 2 * Bits;
#pragma GCC unroll 4
    for (uint32_t at = 0; at < kShare; at += 64) fetch(ahead + size_t{step} * kShare + at);
  }

  template <PlaneKind Kind, int Bits, int Turn, int Planes, int N>
  [[gnu::always_inline]] void add_points(const LookUp& book, avx512::Sums<N>& sums, uint32_t step,
                                         const uint8_t* low, const uint8_t* high) const {
    using Field = CodeFields<Bits>;
    fetch<Bits>(step);
    avx512::Four four = {
        book.template points<Bits>(Field::template codes<Turn>(low, high)),
        book.template points<Bits>(Field::template codes<Turn>(low + 64, high + 64)),
        book.template points<Bits>(Field::template codes<Turn>(low + 128, high + 128)),
        book.template points<Bits>(Field::template codes<Turn>(low + 192, high + 192))};
    // Keeps g++ 12 from finding them again for every row.
    asm("" : "+v"(four.v0), "+v"(four.v1), "+v"(four.v2), "+v"(four.v3));
    avx512::add_step<Kind, Planes, N>(sums, four, rows, step);
  }

  // Products of one run of the narrower field, 256 codes a step, and of the runs after it.
  // `meanwhile` does what it does with each step; unless it is idle, it wants 64 dimensions.
  template <PlaneKind Kind, int Bits, int Turn, int Planes, int N, class Meanwhile>
  [[gnu::always_inline]] void add_runs(const LookUp& book, avx512::Sums<N>& sums,
                                       const Meanwhile& meanwhile) const {
    using Field = CodeFields<Bits>;
    constexpr bool kKeys = Kind == PlaneKind::k, kBusy = Meanwhile::kBusy;
    const uint32_t wide = kBusy ? 64 : dim;
    const uint32_t n_codes = kTileRows * wide, low_bytes = n_codes * Field::kLow / 8;
    const uint32_t steps = (kKeys ? wide : 64) / 32 * Field::kWidth;
    const uint32_t apart = kKeys ? 256 : 4 * wide;
    const uint8_t* low = tile + Turn * (n_codes * Field::kWidth / 8) % low_bytes + 4 * d;
    const uint8_t* high = tile + low_bytes + 4 * d;
    constexpr uint32_t kTogether = !kBusy ? 1 : Field::kWidth == 1 ? 2 : 4;
    for (uint32_t i = 0; i < steps; i += kTogether) {
#pragma GCC unroll 4
      for (uint32_t j = 0; j < kTogether; ++j, low += apart, high += apart) {
        add_points<Kind, Bits, Turn, Planes, N>(book, sums, Turn * steps + i + j, low, high);
        if constexpr (kBusy) {
          constexpr uint32_t kFirst = Turn * 2 * Field::kWidth;  // steps before
          meanwhile((kFirst + i) / 4, kFirst % 4 + j);
        }
      }
    }
    if constexpr ((Turn + 1) * Field::kWidth < 8) {
      add_runs<Kind, Bits, Turn + 1, Planes, N>(book, sums, meanwhile);
    }
  }
};

}  // namespace polykv
