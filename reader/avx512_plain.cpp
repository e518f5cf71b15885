// Plain rows (f32, f16, sinks, paper) with AVX-512, in f32. As in attend_avx512.cpp, nothing from
// the standard library is instantiated here.
#include <immintrin.h>

#include "reader/avx512_block.h"
#include "reader/split_walk.h"

namespace polykv::avx512 {
namespace {

struct Batches {};
using Walk = SplitWalk<Batches>;

// Rows follow one another, and come from memory. Past its end this does nothing.
// Inlined early, or g++ 12 drops it as a function without effect.
[[gnu::always_inline]] inline void fetch_ahead(const float* row) {
  constexpr uint32_t kAhead = 4096;
  _mm_prefetch(reinterpret_cast<const char*>(row) + kAhead, _MM_HINT_T0);
}

// Keeps g++ 12 from loading the operand again for every query.
void keep_loaded(__m512& operand) { asm("" : "+v"(operand)); }

// Steps of adding up the lanes of many vectors: neighbours of a, then those of b.
__m512 add_neighbours(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_ps(a, b, 0x88), _mm512_shuffle_ps(a, b, 0xdd));
}
__m512 add_quarters(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
}

// Sum of the lanes of each of 16 vectors, in their order. parts: [16, 16].
__m512 add_lanes(const float* parts) {
  __m512 x[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) x[i] = _mm512_load_ps(parts + 16 * i);
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) x[i] = add_neighbours(x[i], x[i + 1]);
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) x[i] = add_neighbours(x[i], x[i + 2]);
  x[0] = add_quarters(x[0], x[4]), x[8] = add_quarters(x[8], x[12]);
  return add_quarters(x[0], x[8]);
}

// Up to 16 rows times N queries: scores [N, kProductStride]. No row is transposed: the lanes of a
// product are added up at its end.
template <int N>
void score_sixteen(const float* rows, __mmask16 there, uint32_t dim, const float* q,
                   float* scores) {
  alignas(64) float parts[N][16][16];
  const int n_rows = __builtin_popcount(there);
  for (int t = 0; t < n_rows; ++t, rows += dim) {
    __m512 sum[N];
#pragma GCC unroll 3
    for (int i = 0; i < N; ++i) sum[i] = _mm512_setzero_ps();
    for (uint32_t d = 0; d < dim; d += 16) {
      fetch_ahead(rows + d);
      __m512 k = _mm512_loadu_ps(rows + d);
      keep_loaded(k);
#pragma GCC unroll 3
      for (int i = 0; i < N; ++i) {
        sum[i] = _mm512_fmadd_ps(k, _mm512_loadu_ps(q + size_t(i) * dim + d), sum[i]);
      }
    }
#pragma GCC unroll 3
    for (int i = 0; i < N; ++i) _mm512_store_ps(parts[i][t], sum[i]);
  }
  for (int i = 0; i < N; ++i) {
    _mm512_mask_storeu_ps(scores + size_t(i) * kProductStride, there, add_lanes(parts[i][0]));
  }
}

// 64 dimensions of N queries: acc = acc * keep + gain * sum of weight * value.
template <int N>
void add_tokens(const float* rows, uint32_t dim, const float* weights, uint32_t n_rows,
                const float* keep, const float* gain, float* acc) {
  __m512 sum[N][4];
  for (auto& row : sum) {
    for (__m512& lanes : row) lanes = _mm512_setzero_ps();
  }
  for (uint32_t t = 0; t < n_rows; ++t, rows += dim) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      fetch_ahead(rows + 16 * j);
      __m512 value = _mm512_loadu_ps(rows + 16 * j);
      keep_loaded(value);
#pragma GCC unroll 3
      for (int i = 0; i < N; ++i) {
        const __m512 weight = _mm512_set1_ps(weights[size_t(i) * kWeightStride + t]);
        sum[i][j] = _mm512_fmadd_ps(weight, value, sum[i][j]);
      }
    }
  }
  for (int i = 0; i < N; ++i, acc += dim) {
    for (int j = 0; j < 4; ++j) {
      const __m512 kept = _mm512_mul_ps(_mm512_loadu_ps(acc + 16 * j), _mm512_set1_ps(keep[i]));
      _mm512_storeu_ps(acc + 16 * j, _mm512_fmadd_ps(sum[i][j], _mm512_set1_ps(gain[i]), kept));
    }
  }
}

}  // namespace

void score_rows(const SplitCall& call, const Block& block, const float* rows, uint32_t first,
                uint32_t n, float* scores) {
  const uint32_t dim = call.k->shape.head_dim, n_rows = block.end - block.begin;
  scores += block.begin - block.first;
  for (uint32_t t = 0; t < n_rows; t += 16) {
    const auto there = static_cast<__mmask16>(n_rows - t < 16 ? (1u << (n_rows - t)) - 1 : 0xffff);
    Walk::in_batches<3>(n, [&](uint32_t query, auto batch) {
      score_sixteen<decltype(batch)::kQueries>(rows + size_t{t} * dim, there, dim,
                                               call.q + size_t{first + query} * dim,
                                               scores + size_t{query} * kProductStride + t);
    });
  }
}

void add_rows(const SplitCall& call, const Scratch& s, const Block& block, const float* rows) {
  const PlaneView& v = *call.v;
  const uint32_t dim = v.shape.head_dim, n_rows = block.end - block.begin;
  float* weights = s.weights + (block.begin - block.first);
  alignas(64) float scale[kTileRows];
  const Block plain{block.begin, n_rows, block.begin, block.end, false};
  if (avx2::write_scales(v, plain, scale)) {
    for (uint32_t query = 0; query < call.n_queries; ++query) {
      avx2::multiply(weights + size_t{query} * kWeightStride, scale, n_rows);
    }
  }
  float* acc = v.shape.codec == PlaneCodec::paper_v3 ? call.acc_rotated : call.acc;
  for (uint32_t d = 0; d < dim; d += 64) {
    Walk::in_batches<3>(call.n_queries, [&](uint32_t query, auto batch) {
      add_tokens<decltype(batch)::kQueries>(rows + d, dim, weights + size_t{query} * kWeightStride,
                                            n_rows, s.keep + query, s.gain + query,
                                            acc + size_t{query} * dim + d);
    });
  }
}

void keep_only(const SplitCall& call, const Scratch& s, float* acc) {
  const uint32_t dim = call.v->shape.head_dim;
  for (uint32_t query = 0; query < call.n_queries; ++query, acc += dim) {
    const __m512 keep = _mm512_set1_ps(s.keep[query]);
    for (uint32_t d = 0; d < dim; d += 16) {
      _mm512_storeu_ps(acc + d, _mm512_mul_ps(_mm512_loadu_ps(acc + d), keep));
    }
  }
}

}  // namespace polykv::avx512
