// Plain rows (f32, f16, sinks, paper) with AVX-512, in f32, and the way to the rest. LookUp keeps
// what is instantiated for one CPU apart (reader/split_walk.h). Internal to reader/.
#pragma once

#include <immintrin.h>

#include "reader/avx512_coded.h"
#include "reader/avx512_decode.h"
#include "reader/split_walk.h"

namespace polykv {

template <class LookUp>
struct Avx512Isa {
  static constexpr uint32_t kStep = 64;
  using Scratch = avx2::SplitScratch;
  using Block = avx2::Block;

  static void prepare(const SplitCall& call, const Scratch& scratch) {
    avx512::prepare_queries(call, scratch);
  }
  static void score_tile(const SplitCall& call, const Scratch& scratch, const Block& block) {
    const uint8_t* points = Avx512Decode<LookUp>::points(*call.k, block, false, scratch);
    avx512::score_tile(call, scratch, block, points);
  }
  static void weigh(const SplitCall& call, const Scratch& scratch) {
    avx512::weigh(call, scratch.scores + kTileRows);
    if (!is_rotated(call.v->shape.codec)) return;
    Block block{};
    for (uint32_t row = call.row_begin; row < call.row_end; row = block.end) {
      block = avx2::block_at(*call.v, row, call.row_end);
      if (block.coded) avx512::quantise_tile(call, scratch, block);
    }
  }
  static void add_tile(const SplitCall& call, const Scratch& scratch, const Block& block) {
    const uint8_t* points = Avx512Decode<LookUp>::points(*call.v, block, true, scratch);
    avx512::add_tile(call, scratch, block, points);
  }

  // Keeps g++ 12 from loading the operand again for every query.
  static void keep(__m512& operand) { asm("" : "+v"(operand)); }

  // Scores of N queries against 64 tokens of a tile.
  template <int N>
  static void score_tokens(const float* tile, const float* scale, uint32_t dim, const float* q,
                           float* scores) {
    __m512 sum[N][4];
    for (auto& row : sum) {
      for (__m512& lanes : row) lanes = _mm512_setzero_ps();
    }
    for (uint32_t d = 0; d < dim; ++d, tile += avx2::kTileLd) {
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        __m512 k = _mm512_loadu_ps(tile + 16 * v);
        keep(k);
#pragma GCC unroll 3
        for (int i = 0; i < N; ++i) {
          sum[i][v] = _mm512_fmadd_ps(_mm512_set1_ps(q[i * dim + d]), k, sum[i][v]);
        }
      }
    }
    for (int i = 0; i < N; ++i) {
      for (int v = 0; v < 4; ++v) {
        const __m512 score = _mm512_mul_ps(sum[i][v], _mm512_loadu_ps(scale + 16 * v));
        _mm512_storeu_ps(scores + i * avx2::kScoreStride + 16 * v, score);
      }
    }
  }

  // Adds weights[t] * v[t] for tokens [0, n) and 64 dimensions to N accumulators.
  template <int N>
  static void add_tokens(const float* v, uint32_t dim, const float* weights, uint32_t n,
                         float* acc) {
    __m512 sum[N][4];
    for (auto& row : sum) {
      for (__m512& lanes : row) lanes = _mm512_setzero_ps();
    }
    for (uint32_t t = 0; t < n; ++t, v += dim) {
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        __m512 value = _mm512_loadu_ps(v + 16 * j);
        keep(value);
#pragma GCC unroll 3
        for (int i = 0; i < N; ++i) {
          const __m512 weight = _mm512_set1_ps(weights[i * avx2::kScoreStride + t]);
          sum[i][j] = _mm512_fmadd_ps(weight, value, sum[i][j]);
        }
      }
    }
    for (int i = 0; i < N; ++i) {
      for (int j = 0; j < 4; ++j) {
        float* out = acc + i * dim + 16 * j;
        _mm512_storeu_ps(out, _mm512_add_ps(_mm512_loadu_ps(out), sum[i][j]));
      }
    }
  }
};

}  // namespace polykv
