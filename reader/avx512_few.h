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
  static constexpr uint32_t kRows = 6;  // rows of bytes whose sums fit the registers

  // Whole tiles, as they are packed otherwise, and queries that are done in one pass.
  static bool takes(const SplitCall& call, const Block& block, bool wide) {
    return block.rows == kTileRows && call.n_queries <= (wide ? kRows / 2 : kRows);
  }
  [[gnu::always_inline]] static Pass pass_of(const PlaneView& plane, const Scratch& scratch,
                                             const Block& block, uint32_t ahead_bytes) {
    const uint32_t dim = plane.shape.head_dim;
    const uint32_t step = scratch.ahead == nullptr ? 0 : ahead_bytes / (dim / 4);
    return {avx2::tile_of(plane, block), dim, 0, {}, scratch.ahead, step};
  }

  // false: nothing is done. products: [n_queries, kProductStride]
  static bool score(const SplitCall& call, const Scratch& scratch, const Block& block,
                    int32_t* products) {
    const PlaneView& k = *call.k;
    if (!takes(call, block, avx512::has_wide_queries(k))) return false;
    const uint32_t dim = k.shape.head_dim;
    with_bits(k, [&](auto bits) {
      constexpr int kBits = decltype(bits)::kBits, kPlanes = kBits >= 6 ? 2 : 1;
      const LookUp book(kBits, false);
      Pass pass = pass_of(k, scratch, block, scratch.ahead_bytes / 2);  // weigh() asks for the rest
      pass.rows = {scratch.q, size_t{2} * dim, dim};
      Walk::template in_batches<kRows / kPlanes>(call.n_queries, [&](uint32_t, auto batch) {
        constexpr int kN = decltype(batch)::kQueries;
        Sums<kN * kPlanes> sums;
        avx512::start_sums<kPlanes, kN>(scratch.q_start, sums);
        pass.template add_runs<PlaneKind::k, kBits, 0, kPlanes>(book, sums);
        avx512::put_sums<kPlanes, kN>(sums, products);
      });
    });
    return true;
  }

  // Adds a tile's values to the queries' sums, in registers, as avx512::add_products() does. false:
  // nothing is done.
  static bool add(const SplitCall& call, const Scratch& scratch, const Block& block) {
    if (!takes(call, block, avx512::has_wide_weights(*call.v))) return false;
    const uint32_t dim = call.v->shape.head_dim;
    with_bits(*call.v, [&](auto bits) {
      constexpr int kBits = decltype(bits)::kBits, kPlanes = kBits == 8 ? 2 : 1;
      const LookUp book(kBits, true);
      Pass pass = pass_of(*call.v, scratch, block, scratch.ahead_bytes);
      pass.rows = {reinterpret_cast<const int8_t*>(scratch.weights),
                   avx512::kWeightStride * sizeof(float), kTileRows};
      const __m512 unit = _mm512_set1_ps(avx512::value_unit(*call.v));
      avx512::ValueEnd end{call.acc_rotated, scratch.gain, scratch.keep, dim, unit};
      for (; pass.d < dim; pass.d += 64, pass.ahead += size_t{16} * pass.ahead_step) {
        Walk::template in_batches<kRows / kPlanes>(call.n_queries, [&](uint32_t, auto batch) {
          constexpr int kN = decltype(batch)::kQueries;
          constexpr int32_t kZeros[kN] = {};
          Sums<kN * kPlanes> sums;
          avx512::start_sums<kPlanes, kN>(kZeros, sums);
          pass.template add_runs<PlaneKind::v, kBits, 0, kPlanes>(book, sums);
          avx512::add_sums<kPlanes, kN>(sums, end);
          end.acc += 64;
        });
      }
    });
    return true;
  }
};

}  // namespace polykv
