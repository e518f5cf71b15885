// Attention of a split with AVX2, FMA and F16C. One tile of at most 64 tokens at a time is brought
// to floats in the scratch; all queries then share it.
//
// Order of every sum depends on the rows alone, never on n_queries: scores add over dimensions in
// ascending order, values over the tokens of a tile, tiles in order.
//
// This file is compiled for a CPU that may not be the one at hand: nothing from the standard
// library that could be merged with another file's copy may be instantiated here.
#include <immintrin.h>

#include "reader/attend.h"
#include "reader/avx2_tiles.h"

namespace polykv {
namespace {

using avx2::Block;
using avx2::kScoreStride;
using avx2::kTileLd;

constexpr uint32_t kPad = kTileRows;  // in front of and behind a split's scores
constexpr float kMinusInfinity = -__builtin_inff();

uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

// Parts of the scratch.
struct Scratch {
  float* scores;   // [n_queries, kScoreStride], row_begin at kPad
  float* tile;     // [kTileRows * head_dim]
  uint8_t* codes;  // [kTileRows * head_dim + 32]
};

Scratch cut_scratch(const SplitCall& call) {
  float* tile = call.scratch + size_t{call.n_queries} * kScoreStride;
  float* codes = tile + kTileRows * call.k->shape.head_dim;
  return {call.scratch, tile, reinterpret_cast<uint8_t*>(codes)};
}

// exp(x) for x <= 0, to about 1e-7: 2^n times a Taylor polynomial on |r| <= ln(2)/2.
__m256 exp_negative(__m256 x) {
  const __m256 floor = _mm256_set1_ps(-87.0f);
  const __m256 n =
      _mm256_round_ps(_mm256_mul_ps(_mm256_max_ps(x, floor), _mm256_set1_ps(1.44269504f)),
                      _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), _mm256_max_ps(x, floor));
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
  __m256 y = _mm256_set1_ps(1.0f / 5040);
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(1.0f / 720));
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(1.0f / 120));
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(1.0f / 24));
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(1.0f / 6));
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(0.5f));
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(1.0f));
  y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(1.0f));
  const __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
  y = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(y), exponent));
  return _mm256_and_ps(y, _mm256_cmp_ps(x, floor, _CMP_GE_OQ));
}

// All ones in the first `n` lanes.
__m256 first_lanes(uint32_t n) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lane));
}

float add_lanes(__m256 x) {
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

float top_lane(__m256 x) {
  __m128 top = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  top = _mm_max_ps(top, _mm_movehl_ps(top, top));
  return _mm_cvtss_f32(_mm_max_ss(top, _mm_movehdup_ps(top)));
}

float largest(const float* x, uint32_t n) {
  __m256 top = _mm256_set1_ps(kMinusInfinity);
  for (uint32_t i = 0; i < n; i += 8) {
    const __m256 lanes = _mm256_blendv_ps(top, _mm256_loadu_ps(x + i), first_lanes(n - i));
    top = _mm256_max_ps(top, lanes);
  }
  return top_lane(top);
}

// x[i] = exp(x[i] - top) for i < n; returns their sum. Lanes past n are kept.
float exponentiate(float* x, uint32_t n, float top) {
  __m256 sum = _mm256_setzero_ps();
  for (uint32_t i = 0; i < n; i += 8) {
    const __m256 inside = first_lanes(n - i);
    const __m256 old = _mm256_loadu_ps(x + i);
    const __m256 weight = exp_negative(_mm256_sub_ps(old, _mm256_set1_ps(top)));
    sum = _mm256_add_ps(sum, _mm256_and_ps(weight, inside));
    _mm256_storeu_ps(x + i, _mm256_blendv_ps(old, weight, inside));
  }
  return add_lanes(sum);
}

float add_range(const float* x, uint32_t n) {
  __m256 sum = _mm256_setzero_ps();
  for (uint32_t i = 0; i < n; i += 8) {
    sum = _mm256_add_ps(sum, _mm256_and_ps(_mm256_loadu_ps(x + i), first_lanes(n - i)));
  }
  return add_lanes(sum);
}

// Scores of N queries against 32 tokens of a tile: scale[t] * (q . k[t]) + bias.
template <int N>
void score_tokens(const float* tile, const float* scale, uint32_t dim, const float* q,
                  const float* bias, float* scores) {
  __m256 sum[N][4];
  for (auto& row : sum) {
    for (__m256& lanes : row) lanes = _mm256_setzero_ps();
  }
  for (uint32_t d = 0; d < dim; ++d, tile += kTileLd) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const __m256 k = _mm256_loadu_ps(tile + 8 * v);
#pragma GCC unroll 3
      for (int i = 0; i < N; ++i) {
        sum[i][v] = _mm256_fmadd_ps(_mm256_set1_ps(q[i * dim + d]), k, sum[i][v]);
      }
    }
  }
  for (int i = 0; i < N; ++i) {
    const __m256 add = _mm256_set1_ps(bias == nullptr ? 0.0f : bias[i]);
    for (int v = 0; v < 4; ++v) {
      const __m256 score = _mm256_fmadd_ps(sum[i][v], _mm256_loadu_ps(scale + 8 * v), add);
      _mm256_storeu_ps(scores + i * kScoreStride + 8 * v, score);
    }
  }
}

// Adds weights[t] * v[t] for tokens [0, n) and 32 dimensions to N accumulators.
template <int N>
void add_tokens(const float* v, uint32_t dim, const float* weights, uint32_t n, float* acc) {
  __m256 sum[N][4];
  for (auto& row : sum) {
    for (__m256& lanes : row) lanes = _mm256_setzero_ps();
  }
  for (uint32_t t = 0; t < n; ++t, v += dim) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const __m256 value = _mm256_loadu_ps(v + 8 * j);
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

// Calls step(query, tag of 1, 2 or 3 queries) until all are done: 4 go as 2 + 2.
template <int N>
struct Batch {
  static constexpr int value = N;
};
template <class Step>
void in_batches(uint32_t n_queries, const Step& step) {
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

// Scores of all queries for one block of K.
void score_block(const SplitCall& call, const Scratch& scratch, const Block& block) {
  const uint32_t dim = call.k->shape.head_dim;
  alignas(32) float scale[kTileRows];
  avx2::write_scales(*call.k, block, scale);
  avx2::load_keys(*call.k, block, scratch.codes, scratch.tile);
  const float* q = block.coded ? call.q_rotated : call.q;
  const uint32_t first_lane = (block.begin - block.first) / 32 * 32;
  for (uint32_t lane = first_lane; block.first + lane < block.end; lane += 32) {
    float* scores = scratch.scores + (kPad + block.first + lane - call.row_begin);
    in_batches(call.n_queries, [&](uint32_t query, auto batch) {
      score_tokens<batch.value>(scratch.tile + lane, scale + lane, dim, q + query * dim,
                                block.coded ? call.q_mean + query : nullptr,
                                scores + size_t{query} * kScoreStride);
    });
  }
}

// Scores to weights: exp(score - max), with max and sum. Returns nothing for rows past the sinks
// yet.
void weigh(const SplitCall& call, const Scratch& scratch) {
  const uint32_t n = call.row_end - call.row_begin;
  for (uint32_t query = 0; query < call.n_queries; ++query) {
    float* scores = scratch.scores + size_t{query} * kScoreStride + kPad;
    call.max[query] = largest(scores, n);
    call.sum[query] = exponentiate(scores, n, call.max[query]);
  }
}

void scale_weights(const float* scale, uint32_t n, float* weights) {
  for (uint32_t t = 0; t < n; ++t) weights[t] *= scale[t];
}

// Adds one block of V to the accumulators of its space.
void add_block(const SplitCall& call, const Scratch& scratch, const Block& block) {
  const uint32_t dim = call.v->shape.head_dim;
  alignas(32) float scale[kTileRows];
  const bool scaled = avx2::write_scales(*call.v, block, scale);
  const float* rows = avx2::load_values(*call.v, block, scratch.codes, scratch.tile);
  const uint32_t n = block.end - block.begin;
  float* weights = scratch.scores + kPad + (block.begin - call.row_begin);
  const bool rotated = block.coded || call.v->shape.codec == PlaneCodec::paper_v3;
  float* acc = rotated ? call.acc_rotated : call.acc;
  for (uint32_t query = 0; scaled && query < call.n_queries; ++query) {
    scale_weights(scale + (block.begin - block.first), n, weights + size_t{query} * kScoreStride);
  }
  for (uint32_t d = 0; d < dim; d += 32) {
    in_batches(call.n_queries, [&](uint32_t query, auto batch) {
      add_tokens<batch.value>(rows + d, dim, weights + size_t{query} * kScoreStride, n,
                              acc + size_t{query} * dim + d);
    });
  }
}

// Starts the sums: zero, but the mean of V times the weights of its coded rows.
void start_values(const SplitCall& call, const Scratch& scratch) {
  const PlaneView& v = *call.v;
  const uint32_t dim = v.shape.head_dim;
  const uint32_t sinks_end = smaller(v.shape.n_sinks, call.row_end);
  const uint32_t n_sinks = sinks_end > call.row_begin ? sinks_end - call.row_begin : 0;
  const uint32_t n = call.row_end - call.row_begin;
  for (uint32_t query = 0; query < call.n_queries; ++query) {
    const float* weights = scratch.scores + size_t{query} * kScoreStride + kPad;
    const float sum = add_range(weights + n_sinks, n - n_sinks);
    for (uint32_t d = 0; d < dim; ++d) {
      call.acc[size_t{query} * dim + d] = v.mean == nullptr ? 0.0f : sum * v.mean[d];
      call.acc_rotated[size_t{query} * dim + d] = 0;
    }
  }
}

void empty_state(const SplitCall& call) {
  for (uint32_t query = 0; query < call.n_queries; ++query) {
    call.max[query] = kMinusInfinity;
    call.sum[query] = 0;
    for (uint32_t d = 0; d < call.v->shape.head_dim; ++d) {
      call.acc[size_t{query} * call.v->shape.head_dim + d] = 0;
      call.acc_rotated[size_t{query} * call.v->shape.head_dim + d] = 0;
    }
  }
}

}  // namespace

void attend_split_avx2(const SplitCall& call) {
  if (call.row_begin >= call.row_end) return empty_state(call);
  const Scratch scratch = cut_scratch(call);
  Block block{};
  for (uint32_t row = call.row_begin; row < call.row_end; row = block.end) {
    block = avx2::block_at(*call.k, row, call.row_end);
    score_block(call, scratch, block);
  }
  weigh(call, scratch);
  start_values(call, scratch);
  for (uint32_t row = call.row_begin; row < call.row_end; row = block.end) {
    block = avx2::block_at(*call.v, row, call.row_end);
    add_block(call, scratch, block);
  }
}

}  // namespace polykv
