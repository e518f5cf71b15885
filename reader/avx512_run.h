// Whole tiles of codes in turn, for few queries, with AVX-512 and VNNI: a tile's weights are made
// while the keys of the next and the values of the one before are multiplied. Internal to reader/.
#pragma once

#include "reader/avx512_aside.h"
#include "reader/avx512_few.h"
#include "reader/avx512_tiles.h"

namespace polykv {

template <class LookUp>
struct Avx512Run {
  using Scratch = avx512::Scratch;
  using Aside = avx512::Aside;
  using Few = Avx512Few<LookUp>;
  using Walk = SplitWalk<LookUp>;
  using Tiles = Avx512Tiles<LookUp>;
  static constexpr uint32_t kMost = avx512::kAsideMost;

  // A whole tile from row on, of 64 dimensions: its steps leave room for all of the weights.
  static bool takes(const SplitCall& call, uint32_t row) {
    const PlaneView &k = *call.k, &v = *call.v;
    return is_rotated(k.shape.codec) && is_rotated(v.shape.codec) && k.shape.head_dim == 64 &&
           !avx512::has_wide_queries(k) && !avx512::has_wide_weights(v) &&
           call.n_queries <= kMost && (row - k.shape.n_sinks) % kTileRows == 0 &&
           row + kTileRows <= call.row_end;
  }
  // Whole tiles from row on, as many as there are. Returns the row behind.
  static uint32_t attend(const SplitCall& call, const Scratch& scratch, uint32_t row) {
    const uint32_t end = row + (call.row_end - row) / kTileRows * kTileRows;
    Avx512Run run(call, scratch, row);
    run.walk(row, end);
    return end;
  }

  const SplitCall& call;
  const Tiles keys, values;
  Scratch of[2];  // what a tile has of its own, by turns
  avx512::BlockFacts facts[2];
  alignas(64) float weights[kMost * avx512::kWeightStride];
  alignas(64) float tops[kMost * 16];
  alignas(64) float gain[16];
  const __m512 key_unit, value_unit;

  Avx512Run(const SplitCall& whole, const Scratch& scratch, uint32_t row)
      : call(whole),
        keys(whole, *whole.k, row, false),
        values(whole, *whole.v, row, true),
        key_unit(_mm512_set1_ps(avx512::score_unit(*whole.k))),
        value_unit(_mm512_set1_ps(avx512::value_unit(*whole.v))) {
    of[0] = of[1] = scratch;
    of[1].sums[0] = scratch.sums[1];
    of[1].weights = weights, of[1].gain = gain;
    for (avx512::BlockFacts& tile : facts) tile.there = ~0ull, tile.k_coded = tile.v_coded = true;
  }
  Aside aside(uint32_t turn) {
    const Scratch& s = of[turn];
    return {&facts[turn], s.sums[0], s.q_step, s.off,         s.weights,
            tops,         s.lanes,   s.gain,   call.n_queries};
  }

  template <class Step>
  static void with_queries(uint32_t n, const Step& step) {
    Walk::template in_batches<kMost>(n, [&](uint32_t, auto batch) { step(batch); });
  }

  template <class Meanwhile>
  void score(uint32_t row, uint32_t turn, const Meanwhile& meanwhile) {
    const uint32_t at = row - keys.first;
    avx512::write_scales(keys.scales + at, values.scales + at, key_unit, &facts[turn]);
    const auto pass = keys.pass(row);
    with_bits(keys.bits, [&](auto bits) {
      constexpr int kBits = decltype(bits)::kBits;
      if constexpr (kBits < 6) {
        with_queries(call.n_queries, [&](auto n) {
          Few::template score_as<kBits, decltype(n)::kQueries>(keys.book, pass, of[turn],
                                                               of[turn].sums[0], meanwhile(n));
        });
      }
    });
  }
  template <class Meanwhile>
  void add(uint32_t row, uint32_t turn, const Meanwhile& meanwhile) {
    const auto pass = values.pass(row);
    const avx512::ValueEnd end{call.acc_rotated, of[turn].gain, 64, value_unit};
    with_bits(values.bits, [&](auto bits) {
      constexpr int kBits = decltype(bits)::kBits;
      if constexpr (kBits < 6) {
        with_queries(call.n_queries, [&](auto n) {
          Few::template add_as<kBits, decltype(n)::kQueries>(values.book, pass, of[turn], end,
                                                             meanwhile(n));
        });
      }
    });
  }

  void walk(uint32_t row, uint32_t end) {
    const auto idle = [](auto) { return avx512::Idle{}; };
    score(row, 0, idle);
    avx512::weigh(call, of[0], facts[0], 0, call.n_queries, of[0].sums[0]);
    if (row + kTileRows < end) score(row + kTileRows, 1, idle);
    uint32_t turn = 0;
    for (; row + kTileRows < end; row += kTileRows, turn ^= 1) {
      const Aside next = aside(turn ^ 1);
      next.start();
      if (row + 2 * kTileRows < end) {
        score(row + 2 * kTileRows, turn,
              [&](auto batch) { return avx512::Raising<decltype(batch)::kQueries>{next}; });
      } else {
        for (uint32_t i = 0; i < 4 * call.n_queries; ++i) next.raise(i / 4, i % 4 * 16);
      }
      if (next.far()) avx512::renew_few(call, of[turn ^ 1], next, of[turn].gain);
      add(row, turn, [&](auto batch) { return avx512::Filling<decltype(batch)::kQueries>{next}; });
    }
    add(row, turn, idle);
  }
};

}  // namespace polykv
