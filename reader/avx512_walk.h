// The walk through a call's rows that the AVX-512 kernels share, block by block: K to products to
// weights, V to sums. LookUp turns codes into points (reader/avx512_decode.h), Products multiplies
// (reader/avx512_coded.h); LookUp keeps what is instantiated for one CPU apart. Internal to
// reader/.
#pragma once

#include "reader/avx512_coded.h"
#include "reader/avx512_decode.h"
#include "reader/avx512_few.h"
#include "reader/avx512_run.h"

namespace polykv {

template <class LookUp, class Products>
struct Avx512Walk {
  using Scratch = avx512::Scratch;
  using Block = avx2::Block;
  using Facts = avx512::BlockFacts;
  using Decode = Avx512Decode<LookUp>;
  using Few = Avx512Few<LookUp>;
  using Run = Avx512Run<LookUp>;
  static constexpr uint32_t kAhead = 4 * kTileRows;  // rows from a block to the one to ask for

  // Tiles where a plane has them, else 64 plain rows.
  static Block block_at(const SplitCall& call, uint32_t row) {
    return avx2::block_at(is_rotated(call.k->shape.codec) ? *call.k : *call.v, row, call.row_end);
  }
  static void ask_for(const PlaneView& plane, const SplitCall& call, const Block& block,
                      Scratch* scratch) {
    scratch->ahead = avx2::tile_at(plane, block.first + kAhead, call.span_end);
    const uint32_t row = block.first + kAhead - plane.shape.n_sinks;
    if (scratch->ahead != nullptr) Few::Pass::fetch(plane.scales + row);
    const auto bits = static_cast<uint32_t>(code_bits(plane.shape.codec));
    scratch->ahead_bytes = kTileRows / 8 * plane.shape.head_dim * bits;
    scratch->ahead_share = (scratch->ahead_bytes / 128 + call.n_queries - 1) / call.n_queries * 64;
  }

  static void weigh(const SplitCall& call, const Scratch& scratch, const Block& block,
                    const Facts& facts) {
    const auto use = [&](uint32_t first, uint32_t n, int32_t* products) {
      avx512::weigh(call, scratch, facts, first, n, products);
    };
    if (facts.k_coded && Few::score(call, scratch, block, scratch.sums[0])) {
      return use(0, call.n_queries, scratch.sums[0]);
    }
    if (facts.k_coded) {
      const uint8_t* points = Decode::points(*call.k, block, Products::kSigned, scratch);
      Products::start_scores(call, block, points);
      return avx512::in_groups<Products>(
          call, scratch,
          [&](uint32_t first, uint32_t n, int32_t* products) {
            Products::score(call, scratch, block, points, first, n, products);
          },
          use);
    }
    const avx512::PlainRows rows = avx512::key_rows(call, block, scratch.tile);
    avx512::in_groups<Products>(
        call, scratch,
        [&](uint32_t first, uint32_t n, int32_t* products) {
          avx512::score_rows(call, block, rows, first, n, reinterpret_cast<float*>(products));
        },
        use);
  }

  static void add(const SplitCall& call, const Scratch& scratch, const Block& block,
                  const Facts& facts) {
    if (!facts.v_coded) {
      const avx512::PlainRows rows = avx512::value_rows(call, block, scratch.tile);
      return avx512::add_rows(call, scratch, block, rows);
    }
    if (Few::add(call, scratch, block)) return;
    const uint8_t* points = Decode::points(*call.v, block, true, scratch);
    for (uint32_t d = 0; d < call.v->shape.head_dim; d += 64) {
      Products::add(call, scratch, block, points, d);
    }
  }

  static void attend_block(const SplitCall& call, Scratch& scratch, const Block& block) {
    Facts facts;
    avx512::write_facts(call, block, &facts);
    ask_for(*call.k, call, block, &scratch);
    weigh(call, scratch, block, facts);
    ask_for(*call.v, call, block, &scratch);
    add(call, scratch, block, facts);
  }

  // Sinks come last: before them, all weights are those of coded rows.
  static void attend(const SplitCall& call) {
    if (call.row_begin >= call.row_end) return attend_split_ref(call);  // writes the empty state
    const PlaneView& k = *call.k;
    Scratch scratch = avx512::cut_scratch(call);
    avx512::start(call, scratch);
    if (is_rotated(k.shape.codec)) avx512::prepare_queries(call, scratch);
    const uint32_t n_sinks = is_rotated(k.shape.codec) ? k.shape.n_sinks : call.v->shape.n_sinks;
    for (uint32_t row = call.row_begin < n_sinks ? n_sinks : call.row_begin; row < call.row_end;) {
      if (Run::takes(call, row)) {
        row = Run::attend(call, scratch, row);
        continue;
      }
      const Block block = block_at(call, row);
      attend_block(call, scratch, block);
      row = block.end;
    }
    avx512::add_means(call, scratch);
    if (call.row_begin < n_sinks) attend_block(call, scratch, block_at(call, call.row_begin));
    avx512::finish(call, scratch);
  }
};

}  // namespace polykv
