// The walk through one split with AVX2: K blocks to scores, scores to weights, V blocks to sums.
// What differs between instruction sets is the parameter; batches of queries serve AVX-512, too.
//
// Isa gives: kStep, the tokens or dimensions of plain rows that it handles at once;
//   score_tokens<N>: scale[t] * (q . k[t]) for N queries and kStep tokens of plain rows;
//   add_tokens<N>: adds sum over t of weight[t] * v[t], N queries and kStep dimensions;
//   weigh; prepare, score_tile, add_tile: tiles of codes in integers, a call's queries before them.
// All are members of a template, so that an Isa in an anonymous namespace keeps the code for one
// CPU from being merged with that for another.
#pragma once

#include "reader/attend.h"
#include "reader/avx2_tiles.h"
#include "reader/avx2_weights.h"

namespace polykv {

template <class Isa>
struct SplitWalk {
  static constexpr uint32_t kPad = kTileRows;        // in front of and behind a split's scores
  static constexpr uint32_t kAhead = 3 * kTileRows;  // rows from a block to the one to ask for

  using Scratch = avx2::SplitScratch;
  template <int N>
  using Batch = avx2::Batch<N>;

  // Calls step(first query, Batch<N>) until all are done, at most Most at a time.
  template <int Most, class Step>
  static void in_batches(uint32_t n, const Step& step) {
    for (uint32_t query = 0; query < n;) query += batch_from<Most>(query, n - query, step);
  }
  template <int N, class Step>
  static uint32_t batch_from(uint32_t query, uint32_t left, const Step& step) {
    if constexpr (N > 1) {
      if (left < uint32_t{N}) return batch_from<N - 1>(query, left, step);
    }
    step(query, Batch<N>{});
    return N;
  }

  // Where the score of row block.first belongs. Whole vectors are written: what lies outside the
  // block is overwritten later or never read.
  static float* scores_of(const SplitCall& call, const Scratch& scratch, const avx2::Block& block) {
    return scratch.scores + (kPad + block.first - call.row_begin);
  }

  static void score_plain(const SplitCall& call, const Scratch& scratch, const avx2::Block& block) {
    const uint32_t dim = call.k->shape.head_dim;
    alignas(64) float scale[kTileRows];
    avx2::write_scales(*call.k, block, scale);
    avx2::load_keys(*call.k, block, scratch.tile);
    float* scores = scores_of(call, scratch, block);
    for (uint32_t lane = 0; lane < block.rows; lane += Isa::kStep) {
      in_batches<3>(call.n_queries, [&](uint32_t query, auto batch) {
        Isa::template score_tokens<decltype(batch)::kQueries>(
            scratch.tile + lane, scale + lane, dim, call.q + size_t{query} * dim,
            scores + size_t{query} * avx2::kScoreStride + lane);
      });
    }
  }

  static void add_plain(const SplitCall& call, const Scratch& scratch, const avx2::Block& block) {
    const uint32_t dim = call.v->shape.head_dim;
    alignas(64) float scale[kTileRows];
    const bool scaled = avx2::write_scales(*call.v, block, scale);
    const float* rows = avx2::load_values(*call.v, block, scratch.tile);
    float* weights = scores_of(call, scratch, block);
    float* acc = call.v->shape.codec == PlaneCodec::paper_v3 ? call.acc_rotated : call.acc;
    for (uint32_t query = 0; scaled && query < call.n_queries; ++query) {
      avx2::multiply(weights + size_t{query} * avx2::kScoreStride, scale, block.rows);
    }
    for (uint32_t d = 0; d < dim; d += Isa::kStep) {
      in_batches<3>(call.n_queries, [&](uint32_t query, auto batch) {
        Isa::template add_tokens<decltype(batch)::kQueries>(
            rows + d, dim, weights + size_t{query} * avx2::kScoreStride, block.rows,
            acc + size_t{query} * dim + d);
      });
    }
  }

  static void attend(const SplitCall& call) {
    if (call.row_begin >= call.row_end) return attend_split_ref(call);  // writes the empty state
    Scratch scratch = avx2::cut_scratch(call);
    const PlaneView &k = *call.k, &v = *call.v;
    Isa::prepare(call, scratch);
    avx2::Block block{};
    // While one plane is at work the other's tiles come from memory, half a split ahead.
    for (uint32_t row = call.row_begin; row < call.row_end; row = block.end) {
      block = avx2::block_at(k, row, call.row_end);
      if (call.row_begin == call.span_begin) {
        avx2::prefetch_tile(k, avx2::tile_at(k, block.first + kAhead, call.span_end));
      }
      ask_for(v, block.first, call.span_end, &scratch);
      block.coded ? Isa::score_tile(call, scratch, block) : score_plain(call, scratch, block);
    }
    Isa::weigh(call, scratch);
    for (uint32_t row = call.row_begin; row < call.row_end; row = block.end) {
      block = avx2::block_at(v, row, call.row_end);
      ask_for(k, block.first + kSplitTokens, call.span_end, &scratch);
      block.coded ? Isa::add_tile(call, scratch, block) : add_plain(call, scratch, block);
    }
  }

  static void ask_for(const PlaneView& plane, uint32_t row, uint32_t end, Scratch* scratch) {
    scratch->ahead = avx2::tile_at(plane, row, end);
  }
};

}  // namespace polykv
