// The walk through one split that the vector kernels share: K blocks to scores, scores to weights,
// V blocks to sums. What differs between instruction sets is the parameter.
//
// Isa gives: kStep, the tokens or dimensions that it handles at once (32 or 64);
//   load_keys, load_values (as in avx2_tiles.h);
//   score_tokens<N>: scale[t] * (q . k[t]) + bias for N queries and kStep tokens;
//   add_tokens<N>: adds sum over t of weight[t] * v[t], N queries and kStep dimensions.
// Everything here is a member of a template, so that an Isa in an anonymous namespace keeps the
// code for one CPU from being merged with that for another.
#pragma once

#include "reader/attend.h"
#include "reader/avx2_tiles.h"
#include "reader/avx2_weights.h"

namespace polykv {

template <class Isa>
struct SplitWalk {
  static constexpr uint32_t kPad = kTileRows;        // in front of and behind a split's scores
  static constexpr uint32_t kAhead = 2 * kTileRows;  // rows from a block to the one to ask for

  // Parts of the scratch.
  struct Scratch {
    float* scores;   // [n_queries, kScoreStride], row_begin at kPad
    float* tile;     // [kTileRows * head_dim]
    uint8_t* codes;  // [kTileRows * head_dim + 32]
  };

  // On 64 bytes: else every vector of 64 bytes would touch two cache lines.
  static Scratch cut_scratch(const SplitCall& call) {
    const size_t past_line = reinterpret_cast<uintptr_t>(call.scratch) % 64;
    float* scores = call.scratch + (64 - past_line) % 64 / sizeof(float);
    float* tile = scores + size_t{call.n_queries} * avx2::kScoreStride;
    float* codes = tile + kTileRows * call.k->shape.head_dim;
    return {scores, tile, reinterpret_cast<uint8_t*>(codes)};
  }

  template <int N>
  struct Batch {
    static constexpr int kQueries = N;
  };
  // Calls step(first query, Batch<1, 2 or 3>) until all are done: 4 go as 2 + 2.
  template <class Step>
  static void in_batches(uint32_t n_queries, const Step& step) {
    uint32_t query = 0;
    while (n_queries - query > 4 || n_queries - query == 3) {
      step(query, Batch<3>{});
      query += 3;
    }
    while (n_queries - query >= 2) {
      step(query, Batch<2>{});
      query += 2;
    }
    if (query < n_queries) step(query, Batch<1>{});
  }

  // Whole steps of tokens are scored: what lies outside the block is overwritten or never read.
  static void score_block(const SplitCall& call, const Scratch& scratch, const avx2::Block& block) {
    const uint32_t dim = call.k->shape.head_dim;
    alignas(64) float scale[kTileRows];
    avx2::prefetch_tile(*call.k, block.first + kAhead);
    avx2::write_scales(*call.k, block, scale);
    Isa::load_keys(*call.k, block, scratch.codes, scratch.tile);
    const float* q = block.coded ? call.q_rotated : call.q;
    const float* mean = block.coded ? call.q_mean : nullptr;
    const uint32_t first_lane = (block.begin - block.first) / Isa::kStep * Isa::kStep;
    for (uint32_t lane = first_lane; block.first + lane < block.end; lane += Isa::kStep) {
      float* scores = scratch.scores + (kPad + block.first + lane - call.row_begin);
      in_batches(call.n_queries, [&](uint32_t query, auto batch) {
        Isa::template score_tokens<decltype(batch)::kQueries>(
            scratch.tile + lane, scale + lane, dim, q + size_t{query} * dim,
            mean == nullptr ? nullptr : mean + query, scores + size_t{query} * avx2::kScoreStride);
      });
    }
  }

  // Adds one block of V to the accumulators of its space.
  static void add_block(const SplitCall& call, const Scratch& scratch, const avx2::Block& block) {
    const uint32_t dim = call.v->shape.head_dim;
    alignas(64) float scale[kTileRows];
    avx2::prefetch_tile(*call.v, block.first + kAhead);
    const bool scaled = avx2::write_scales(*call.v, block, scale);
    const float* rows = Isa::load_values(*call.v, block, scratch.codes, scratch.tile);
    const uint32_t n = block.end - block.begin;
    float* weights = scratch.scores + (kPad + block.begin - call.row_begin);
    const bool rotated = block.coded || call.v->shape.codec == PlaneCodec::paper_v3;
    float* acc = rotated ? call.acc_rotated : call.acc;
    for (uint32_t query = 0; scaled && query < call.n_queries; ++query) {
      avx2::multiply(weights + size_t{query} * avx2::kScoreStride,
                     scale + (block.begin - block.first), n);
    }
    for (uint32_t d = 0; d < dim; d += Isa::kStep) {
      in_batches(call.n_queries, [&](uint32_t query, auto batch) {
        Isa::template add_tokens<decltype(batch)::kQueries>(
            rows + d, dim, weights + size_t{query} * avx2::kScoreStride, n,
            acc + size_t{query} * dim + d);
      });
    }
  }

  static void attend(const SplitCall& call) {
    if (call.row_begin >= call.row_end) return attend_split_ref(call);  // writes the empty state
    const Scratch scratch = cut_scratch(call);
    avx2::prefetch_tile(*call.v, call.row_begin);
    avx2::prefetch_tile(*call.v, call.row_begin + kTileRows);
    avx2::Block block{};
    for (uint32_t row = call.row_begin; row < call.row_end; row = block.end) {
      block = avx2::block_at(*call.k, row, call.row_end);
      score_block(call, scratch, block);
    }
    avx2::weigh(call, scratch.scores + kPad);
    for (uint32_t row = call.row_begin; row < call.row_end; row = block.end) {
      block = avx2::block_at(*call.v, row, call.row_end);
      add_block(call, scratch, block);
    }
  }
};

}  // namespace polykv
