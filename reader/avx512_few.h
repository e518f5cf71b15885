// Tiles of codes for few queries, with AVX-512 and VNNI: the same integers as by Vnni, but points
// are never stored. LookUp keeps what is instantiated for one CPU apart (reader/avx512_decode.h).
// Internal to reader/.
#pragma once

#include "reader/avx512_coded.h"
#include "reader/avx512_ends.h"
#include "reader/avx512_pass.h"
#include "reader/split_walk.h"

namespace polykv {

template <class LookUp>
struct Avx512Few {
  using Scratch = avx512::Scratch;
  using Block = avx2::Block;
  using Pass = Avx512Pass<LookUp>;
  template <int N>
  using Sums = avx512::Sums<N>;
  using Walk = SplitWalk<LookUp>;
  using Idle = avx512::Idle;
  static constexpr uint32_t kRows = 6;  // rows of bytes whose sums fit the registers

  // Whole tiles, as they are packed otherwise, and queries that are done in one pass.
  static bool takes(const SplitCall& call, const Block& block, bool wide) {
    return block.rows == kTileRows && call.n_queries <= (wide ? kRows / 2 : kRows);
  }
  // What is not there to be asked for is asked for again.
  [[gnu::always_inline]] static Pass pass_of(const PlaneView& plane, const Scratch& scratch,
                                             const Block& block) {
    const uint8_t* tile = avx2::tile_of(plane, block);
    return {tile, plane.shape.head_dim, 0, {}, scratch.ahead == nullptr ? tile : scratch.ahead};
  }

  // false: nothing is done. products: [n_queries, kProductStride]
  static bool score(const SplitCall& call, const Scratch& scratch, const Block& block,
                    int32_t* products) {
    const PlaneView& k = *call.k;
    if (!takes(call, block, avx512::has_wide_queries(k))) return false;
    with_bits(k, [&](auto bits) {
      constexpr int kBits = decltype(bits)::kBits;
      Walk::template in_batches<kBits >= 6 ? kRows / 2 : kRows>(
          call.n_queries, [&](uint32_t, auto batch) {
            score_as<kBits, decltype(batch)::kQueries>(
                LookUp(kBits, false), pass_of(k, scratch, block), scratch, products, Idle{});
          });
    });
    return true;
  }
  template <int Bits, int N, class Meanwhile>
  [[gnu::always_inline]] static void score_as(const LookUp& book, Pass pass, const Scratch& scratch,
                                              int32_t* products, const Meanwhile& meanwhile) {
    constexpr int kPlanes = Bits >= 6 ? 2 : 1;
    pass.rows = {scratch.q, size_t{2} * pass.dim, pass.dim};
    Sums<N * kPlanes> sums;
    avx512::start_sums<kPlanes, N>(scratch.q_start, sums);
    pass.template add_runs<PlaneKind::k, Bits, 0, kPlanes>(book, sums, meanwhile);
    avx512::put_sums<kPlanes, N>(sums, products);
  }

  // Adds a tile's values to the queries' sums, in registers, as avx512::add_products() does. false:
  // nothing is done.
  static bool add(const SplitCall& call, const Scratch& scratch, const Block& block) {
    if (!takes(call, block, avx512::has_wide_weights(*call.v))) return false;
    with_bits(*call.v, [&](auto bits) {
      constexpr int kBits = decltype(bits)::kBits;
      Walk::template in_batches<kBits >= 6 ? kRows / 2 : kRows>(
          call.n_queries, [&](uint32_t, auto batch) {
            add_as<kBits, decltype(batch)::kQueries>(LookUp(kBits, true),
                                                     pass_of(*call.v, scratch, block), scratch,
                                                     end_of(call, scratch), Idle{});
          });
    });
    return true;
  }
  static avx512::ValueEnd end_of(const SplitCall& call, const Scratch& scratch) {
    return {call.acc_rotated, scratch.gain, call.v->shape.head_dim,
            _mm512_set1_ps(avx512::value_unit(*call.v))};
  }
  template <int Bits, int N, class Meanwhile>
  [[gnu::always_inline]] static void add_as(const LookUp& book, Pass pass, const Scratch& scratch,
                                            avx512::ValueEnd end, const Meanwhile& meanwhile) {
    constexpr int kPlanes = Bits >= 6 ? 2 : 1;
    pass.rows = {reinterpret_cast<const int8_t*>(scratch.weights),
                 avx512::kWeightStride * sizeof(float), kTileRows};
    constexpr int32_t kZeros[N] = {};
    Sums<N * kPlanes> sums;
    avx512::start_sums<kPlanes, N>(kZeros, sums);
    pass.template add_runs<PlaneKind::v, Bits, 0, kPlanes>(book, sums, meanwhile);
    avx512::add_sums<kPlanes, N>(sums, end);
    while ((pass.d += 64) < pass.dim) {
      pass.ahead += size_t{kTileRows} * 8 * Bits, end.acc += 64;
      avx512::start_sums<kPlanes, N>(kZeros, sums);
      pass.template add_runs<PlaneKind::v, Bits, 0, kPlanes>(book, sums, Idle{});
      avx512::add_sums<kPlanes, N>(sums, end);
    }
  }
};

}  // namespace polykv
