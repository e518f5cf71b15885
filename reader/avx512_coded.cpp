// Attention to tiles of codes with AVX-512 and VNNI, in integers: points of codes as bytes, queries
// and weights quantised, 4-byte dot products.
//
//   scores  u8 points of K (128 too high, taken back by q_start) times s8 queries: one plane of
//           8 bits, or two (16 bits) where K itself is that exact
//   values  u8 weights, a step for each tile and query, times s8 points of V; of V with 8 bits two
//           planes, likewise
//
// As in attend_avx512.cpp, nothing from the standard library is instantiated here.
#include "reader/avx512_coded.h"

#include <immintrin.h>

#include "reader/split_walk.h"

namespace polykv::avx512 {
namespace {

constexpr int kPlanesFrom = 6;  // bits of K from which queries take two planes

struct Batches {};
using Walk = SplitWalk<Batches>;

float point_step(const PlaneView& plane) {
  const int bits = code_bits(plane.shape.codec);
  return bits == 8 ? 1.0f : avx2::byte_book(bits).step;
}

__mmask64 first_tokens(uint32_t n) { return n >= 64 ? ~0ull : (1ull << n) - 1; }

// Scales of a tile's tokens times `by`; 0 past its end.
void load_scales(const PlaneView& plane, const Block& block, float by, __m512 (&scale)[4]) {
  const uint8_t* scales = plane.scales + (block.first - plane.shape.n_sinks);
  const __m512i bytes = _mm512_maskz_loadu_epi8(first_tokens(block.rows), scales);
  const __m512 step = _mm512_set1_ps(plane.scale_max / 255.0f * by);
  const __m128i part[4] = {_mm512_castsi512_si128(bytes), _mm512_extracti32x4_epi32(bytes, 1),
                           _mm512_extracti32x4_epi32(bytes, 2),
                           _mm512_extracti32x4_epi32(bytes, 3)};
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    scale[v] = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(part[v])), step);
  }
}

// A query as integers: [2, dim] bytes, hi and lo, or hi alone.
void quantise_query(const float* q, uint32_t dim, bool wide, int8_t* out, float* step,
                    int32_t* start) {
  __m512 top = _mm512_setzero_ps();
  for (uint32_t d = 0; d < dim; d += 16) {
    top = _mm512_max_ps(top, _mm512_abs_ps(_mm512_loadu_ps(q + d)));
  }
  const float most = wide ? 32639.0f : 127.0f, largest = _mm512_reduce_max_ps(top);
  const bool there = largest > 1e-30f;
  *step = there ? largest / most : 0.0f;
  const __m512 inverse = _mm512_set1_ps(there ? most / largest : 0.0f);
  __m512i sum = _mm512_setzero_si512();
  for (uint32_t d = 0; d < dim; d += 16) {
    const __m512i x = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(q + d), inverse));
    sum = _mm512_add_epi32(sum, x);
    __m512i hi = x;
    if (wide) {
      hi = _mm512_srai_epi32(_mm512_add_epi32(x, _mm512_set1_epi32(128)), 8);
      const __m512i lo = _mm512_sub_epi32(x, _mm512_slli_epi32(hi, 8));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + dim + d), _mm512_cvtepi32_epi8(lo));
    }
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + d), _mm512_cvtepi32_epi8(hi));
  }
  *start = -128 * _mm512_reduce_add_epi32(sum);
}

__m512i four_bytes(const int8_t* p) {
  int four;
  __builtin_memcpy(&four, p, sizeof four);
  return _mm512_set1_epi32(four);
}

// One step's share of the next tile.
void fetch(const uint8_t* ahead, uint32_t ahead_step, uint32_t step) {
  if (ahead == nullptr) return;
  const auto* at = reinterpret_cast<const char*>(ahead + size_t{step} * ahead_step);
  _mm_prefetch(at, _MM_HINT_T0);
  _mm_prefetch(at + ahead_step / 2, _MM_HINT_T0);
}

// Sums for N queries and 64 tokens. `stride`: bytes from one group of 4 dimensions to the next.
template <int N, int Planes>
void dot_keys(const uint8_t* points, uint32_t stride, uint32_t dim, const int8_t* q,
              const int32_t* start, const Scratch& scratch, const uint8_t* ahead,
              __m512i (&sum)[N][4]) {
  __m512i high[N][4];
#pragma GCC unroll 6
  for (int i = 0; i < N; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      sum[i][v] = _mm512_set1_epi32(start[i]);
      high[i][v] = _mm512_setzero_si512();
    }
  }
  for (uint32_t d = 0; d < dim; d += 4, points += stride) {
    fetch(ahead, scratch.ahead_step, d / 4);
    __m512i k[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) k[v] = _mm512_loadu_si512(points + 64 * v);
#pragma GCC unroll 6
    for (int i = 0; i < N; ++i) {
      const int8_t* mine = q + size_t(i) * 2 * dim + d;
      const __m512i hi = four_bytes(mine);
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        if constexpr (Planes == 2) {
          high[i][v] = _mm512_dpbusd_epi32(high[i][v], k[v], hi);
        } else {
          sum[i][v] = _mm512_dpbusd_epi32(sum[i][v], k[v], hi);
        }
      }
      if constexpr (Planes == 2) {
        const __m512i lo = four_bytes(mine + dim);
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) sum[i][v] = _mm512_dpbusd_epi32(sum[i][v], k[v], lo);
      }
    }
  }
  if constexpr (Planes == 2) {
#pragma GCC unroll 6
    for (int i = 0; i < N; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        sum[i][v] = _mm512_add_epi32(sum[i][v], _mm512_slli_epi32(high[i][v], 8));
      }
    }
  }
}

template <int Planes>
void score_with(const SplitCall& call, const Scratch& scratch, const Block& block,
                const uint8_t* tile) {
  const PlaneView& k = *call.k;
  const uint32_t dim = k.shape.head_dim;
  __m512 scale[4];
  load_scales(k, block, point_step(k), scale);
  float* scores = scratch.scores + (kTileRows + block.first - call.row_begin);
  Walk::in_batches<Planes == 2 ? 3 : 6>(call.n_queries, [&](uint32_t query, auto batch) {
    constexpr int kN = decltype(batch)::kQueries;
    __m512i sum[kN][4];
    dot_keys<kN, Planes>(tile, block.rows * 4, dim, scratch.q + size_t{query} * 2 * dim,
                         scratch.q_start + query, scratch, query == 0 ? scratch.ahead : nullptr,
                         sum);
#pragma GCC unroll 6
    for (int i = 0; i < kN; ++i) {
      const __m512 step = _mm512_set1_ps(scratch.q_step[query + i]);
      const __m512 mean = _mm512_set1_ps(call.q_mean[query + i]);
      float* out = scores + size_t{query + i} * avx2::kScoreStride;
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[i][v]), step);
        _mm512_storeu_ps(out + 16 * v, _mm512_fmadd_ps(scaled, scale[v], mean));
      }
    }
  });
}

// A tile's weights of one query as bytes: [2, 64], hi and lo, or hi alone. 0 outside the block.
template <int Planes>
void quantise_weights(const float* weights, const __m512 (&scale)[4], __mmask64 inside, int8_t* out,
                      float* step) {
  constexpr float kMost = Planes == 2 ? 65535.0f : 255.0f;
  __m512 p[4];
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    const auto mask = static_cast<__mmask16>(inside >> (16 * v));
    p[v] = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, weights + 16 * v), scale[v]);
  }
  const __m512 top = _mm512_max_ps(_mm512_max_ps(p[0], p[1]), _mm512_max_ps(p[2], p[3]));
  const float largest = _mm512_reduce_max_ps(top);
  const bool there = largest > 1e-30f;
  *step = there ? largest / kMost : 0.0f;
  const __m512 inverse = _mm512_set1_ps(there ? kMost / largest : 0.0f);
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(p[v], inverse));
    auto* to = reinterpret_cast<__m128i*>(out + 16 * v);
    if constexpr (Planes == 2) {
      _mm_storeu_si128(to + 4, _mm512_cvtepi32_epi8(q));
      q = _mm512_srli_epi32(q, 8);
    }
    _mm_storeu_si128(to, _mm512_cvtusepi32_epi8(q));
  }
}

// Adds tokens 4 * [begin, end) of 64 dimensions to N accumulators.
template <int N, int Planes>
void add_dims(const uint8_t* points, uint32_t dim, uint32_t begin, uint32_t end,
              const int8_t* weights, const float* step, const Scratch& scratch,
              const uint8_t* ahead, float* acc) {
  __m512i sum[N][Planes][4];
#pragma GCC unroll 24
  for (int i = 0; i < N * Planes * 4; ++i) {
    sum[i / 4 / Planes][i / 4 % Planes][i % 4] = _mm512_setzero_si512();
  }
  for (uint32_t t = begin; t < end; ++t) {
    fetch(ahead, scratch.ahead_step, t);
    __m512i values[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      values[v] = _mm512_loadu_si512(points + size_t{t} * dim * 4 + 64 * v);
    }
#pragma GCC unroll 6
    for (int i = 0; i < N * Planes; ++i) {
      const int8_t* plane = weights + (i / Planes * 2 + i % Planes) * int{kTileRows};
      const __m512i p = four_bytes(plane + 4 * t);
      auto& mine = sum[i / Planes][i % Planes];
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) mine[v] = _mm512_dpbusd_epi32(mine[v], p, values[v]);
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < N; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      __m512i all = sum[i][0][v];
      if constexpr (Planes == 2) {
        all = _mm512_add_epi32(_mm512_slli_epi32(all, 8), sum[i][1][v]);
      }
      float* out = acc + size_t(i) * dim + 16 * v;
      const __m512 add = _mm512_cvtepi32_ps(all);
      _mm512_storeu_ps(out, _mm512_fmadd_ps(add, _mm512_set1_ps(step[i]), _mm512_loadu_ps(out)));
    }
  }
}

template <int Planes>
void add_with(const SplitCall& call, const Scratch& scratch, const Block& block,
              const uint8_t* tile) {
  const PlaneView& v = *call.v;
  const uint32_t dim = v.shape.head_dim;
  const uint32_t begin = block.begin - block.first, end = block.end - block.first;
  __m512 scale[4];
  load_scales(v, block, point_step(v), scale);
  const float* weights = scratch.scores + (kTileRows + block.first - call.row_begin);
  const __mmask64 inside = first_tokens(end) & ~first_tokens(begin);
  for (uint32_t query = 0; query < call.n_queries; ++query) {
    quantise_weights<Planes>(weights + size_t{query} * avx2::kScoreStride, scale, inside,
                             scratch.weights + size_t{query} * 2 * kTileRows,
                             scratch.p_step + query);
  }
  for (uint32_t d = 0; d < dim; d += 64) {
    const uint8_t* ahead = scratch.ahead;
    if (ahead != nullptr) ahead += size_t{d} / 4 * scratch.ahead_step;
    Walk::in_batches<6 / Planes>(call.n_queries, [&](uint32_t query, auto batch) {
      add_dims<decltype(batch)::kQueries, Planes>(
          tile + size_t{d} * 4, dim, begin / 4, (end + 3) / 4,
          scratch.weights + size_t{query} * 2 * kTileRows, scratch.p_step + query, scratch,
          query == 0 ? ahead : nullptr, call.acc_rotated + size_t{query} * dim + d);
    });
  }
}

}  // namespace

void prepare_queries(const SplitCall& call, const Scratch& scratch) {
  if (!is_rotated(call.k->shape.codec)) return;
  const uint32_t dim = call.k->shape.head_dim;
  const bool wide = code_bits(call.k->shape.codec) >= kPlanesFrom;
  for (uint32_t query = 0; query < call.n_queries; ++query) {
    quantise_query(call.q_rotated + size_t{query} * dim, dim, wide,
                   scratch.q + size_t{query} * 2 * dim, scratch.q_step + query,
                   scratch.q_start + query);
  }
}

void score_tile(const SplitCall& call, const Scratch& scratch, const Block& block,
                const uint8_t* points) {
  const bool wide = code_bits(call.k->shape.codec) >= kPlanesFrom;
  wide ? score_with<2>(call, scratch, block, points) : score_with<1>(call, scratch, block, points);
}

void add_tile(const SplitCall& call, const Scratch& scratch, const Block& block,
              const uint8_t* points) {
  const bool wide = code_bits(call.v->shape.codec) == 8;
  wide ? add_with<2>(call, scratch, block, points) : add_with<1>(call, scratch, block, points);
}

}  // namespace polykv::avx512
