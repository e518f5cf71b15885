// Attention of a split with AVX2, FMA and F16C: plain rows in f32, at most 64 tokens at a time in
// the scratch, which all queries then share. Tiles of codes: avx2_coded.cpp.
//
// Order of every sum depends on the rows alone, never on n_queries: scores add over dimensions in
// ascending order, values over the tokens of a tile, tiles in order.
//
// This file is compiled for a CPU that may not be the one at hand: nothing from the standard
// library that could be merged with another file's copy may be instantiated here.
#include <immintrin.h>

#include "reader/avx2_coded.h"
#include "reader/split_walk.h"

namespace polykv {
namespace {

using avx2::kScoreStride;
using avx2::kTileLd;

// Keeps g++ 12 from loading the operand again for every query.
void keep(__m256& operand) { asm("" : "+x"(operand)); }

struct Avx2 {
  static constexpr uint32_t kStep = 32;

  // Scores of N queries against 32 tokens of a tile: scale[t] * (q . k[t]).
  template <int N>
  static void score_tokens(const float* tile, const float* scale, uint32_t dim, const float* q,
                           float* scores) {
    __m256 sum[N][4];
    for (auto& row : sum) {
      for (__m256& lanes : row) lanes = _mm256_setzero_ps();
    }
    for (uint32_t d = 0; d < dim; ++d, tile += kTileLd) {
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        __m256 k = _mm256_loadu_ps(tile + 8 * v);
        keep(k);
#pragma GCC unroll 3
        for (int i = 0; i < N; ++i) {
          sum[i][v] = _mm256_fmadd_ps(_mm256_set1_ps(q[i * dim + d]), k, sum[i][v]);
        }
      }
    }
    for (int i = 0; i < N; ++i) {
      for (int v = 0; v < 4; ++v) {
        const __m256 score = _mm256_mul_ps(sum[i][v], _mm256_loadu_ps(scale + 8 * v));
        _mm256_storeu_ps(scores + i * kScoreStride + 8 * v, score);
      }
    }
  }

  // Adds weights[t] * v[t] for tokens [0, n) and 32 dimensions to N accumulators.
  template <int N>
  static void add_tokens(const float* v, uint32_t dim, const float* weights, uint32_t n,
                         float* acc) {
    __m256 sum[N][4];
    for (auto& row : sum) {
      for (__m256& lanes : row) lanes = _mm256_setzero_ps();
    }
    for (uint32_t t = 0; t < n; ++t, v += dim) {
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        __m256 value = _mm256_loadu_ps(v + 8 * j);
        keep(value);
#pragma GCC unroll 3
        for (int i = 0; i < N; ++i) {
          sum[i][j] =
              _mm256_fmadd_ps(_mm256_set1_ps(weights[i * kScoreStride + t]), value, sum[i][j]);
        }
      }
    }
    for (int i = 0; i < N; ++i) {
      for (int j = 0; j < 4; ++j) {
        float* out = acc + i * dim + 8 * j;
        _mm256_storeu_ps(out, _mm256_add_ps(_mm256_loadu_ps(out), sum[i][j]));
      }
    }
  }

  static void weigh(const SplitCall& call, const avx2::SplitScratch& scratch) {
    avx2::weigh(call, scratch.scores + kTileRows);
  }
  static void prepare(const SplitCall& call, const avx2::SplitScratch& scratch) {
    avx2::prepare_queries(call, scratch);
  }
  static void score_tile(const SplitCall& call, const avx2::SplitScratch& scratch,
                         const avx2::Block& block) {
    avx2::prefetch_tile(*call.v, scratch.ahead);
    avx2::score_tile(call, scratch, block);
  }
  static void add_tile(const SplitCall& call, const avx2::SplitScratch& scratch,
                       const avx2::Block& block) {
    avx2::prefetch_tile(*call.k, scratch.ahead);
    avx2::add_tile(call, scratch, block);
  }
};

}  // namespace

void attend_split_avx2(const SplitCall& call) { SplitWalk<Avx2>::attend(call); }

}  // namespace polykv
