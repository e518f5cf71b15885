// Plain rows (f32, f16, sinks, paper) with AVX-512, in f32. As in attend_avx512.cpp, nothing from
// the standard library is instantiated here.
#include <immintrin.h>

#include "reader/avx512_block.h"
#include "reader/split_walk.h"

namespace polykv::avx512 {
namespace {

struct Batches {};
using Walk = SplitWalk<Batches>;

// Numbers as they are stored.
struct Singles {
  static constexpr uint32_t kBytes = 4;
  static __m512 load(const uint8_t* at) { return _mm512_loadu_ps(at); }
};
struct Halves {
  static constexpr uint32_t kBytes = 2;
  static __m512 load(const uint8_t* at) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
  }
};

// Asks for what is ahead with `n` rows from t on: their numbers [d, d + count).
// Inlined early, or g++ 12 drops it as a function without effect.
[[gnu::always_inline]] inline void fetch(const PlainRows& rows, uint32_t dim, uint32_t t,
                                         uint32_t n, uint32_t d, uint32_t count) {
  for (uint32_t row = t; row < t + n && row < rows.n_ahead; ++row) {
    const uint8_t* at = rows.ahead + (size_t{row} * dim + d) * rows.ahead_bytes;
    const uint32_t bytes = count * rows.ahead_bytes;
    for (uint32_t i = 0; i < bytes; i += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(at + i), _MM_HINT_T0);
    }
  }
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

// Up to 16 rows times N queries: scores [N, kProductStride]. No row is transposed: the lanes of
// products are added up at their end, always in the same order. Four rows share the loads of the
// queries; what stands for rows that are not there is not written.
template <class Numbers, int N>
void score_sixteen(const uint8_t* rows, uint32_t n_rows, uint32_t dim, const float* q,
                   float* scores) {
  __m512 four[N][4];  // rows at a time
#pragma GCC unroll 4
  for (uint32_t g = 0; g < 4; ++g) {
    const uint8_t* row[4];
    for (uint32_t j = 0; j < 4; ++j) {
      const uint32_t t = 4 * g + j;
      row[j] = rows + size_t{t < n_rows ? t : n_rows - 1} * dim * Numbers::kBytes;
    }
    __m512 sum[N][4];
    for (auto& of_query : sum) {
      for (__m512& lanes : of_query) lanes = _mm512_setzero_ps();
    }
    for (uint32_t d = 0; d < dim; d += 16) {
      __m512 k[4];
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) k[j] = Numbers::load(row[j] + size_t{d} * Numbers::kBytes);
#pragma GCC unroll 3
      for (int i = 0; i < N; ++i) {
        const __m512 query = _mm512_loadu_ps(q + size_t(i) * dim + d);
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) sum[i][j] = _mm512_fmadd_ps(k[j], query, sum[i][j]);
      }
    }
    for (int i = 0; i < N; ++i) {
      four[i][g] = add_neighbours(add_neighbours(sum[i][0], sum[i][1]),
                                  add_neighbours(sum[i][2], sum[i][3]));
    }
  }
  const auto there = static_cast<__mmask16>((1u << n_rows) - 1);
  for (int i = 0; i < N; ++i) {
    const __m512 sums =
        add_quarters(add_quarters(four[i][0], four[i][1]), add_quarters(four[i][2], four[i][3]));
    _mm512_mask_storeu_ps(scores + size_t(i) * kProductStride, there, sums);
  }
}

// 64 dimensions of N queries: acc += sum of weight * value.
template <class Numbers, int N>
void add_tokens(const PlainRows& rows, uint32_t dim, uint32_t d, const float* weights,
                uint32_t n_rows, float* acc) {
  __m512 sum[N][4];
  for (auto& row : sum) {
    for (__m512& lanes : row) lanes = _mm512_setzero_ps();
  }
  const uint8_t* row = rows.first + size_t{d} * Numbers::kBytes;
  for (uint32_t t = 0; t < n_rows; ++t, row += size_t{dim} * Numbers::kBytes) {
    fetch(rows, dim, t, 1, d, 64);
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      __m512 value = Numbers::load(row + 16 * j * Numbers::kBytes);
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
      _mm512_storeu_ps(acc + 16 * j, _mm512_add_ps(_mm512_loadu_ps(acc + 16 * j), sum[i][j]));
    }
  }
}

template <class Numbers>
void score_all(const PlainRows& rows, uint32_t n_rows, uint32_t dim, const float* q, uint32_t n,
               float* scores) {
  for (uint32_t t = 0; t < n_rows; t += 16) {
    fetch(rows, dim, t, 16, 0, dim);
    const uint32_t some = n_rows - t < 16 ? n_rows - t : 16;
    const uint8_t* sixteen = rows.first + size_t{t} * dim * Numbers::kBytes;
    Walk::in_batches<3>(n, [&](uint32_t query, auto batch) {
      score_sixteen<Numbers, decltype(batch)::kQueries>(
          sixteen, some, dim, q + size_t{query} * dim, scores + size_t{query} * kProductStride + t);
    });
  }
}

template <class Numbers>
void add_all(const SplitCall& call, const PlainRows& rows, uint32_t n_rows, const float* weights,
             float* acc) {
  const uint32_t dim = call.v->shape.head_dim;
  for (uint32_t d = 0; d < dim; d += 64) {
    PlainRows own = rows;
    Walk::in_batches<3>(call.n_queries, [&](uint32_t query, auto batch) {
      add_tokens<Numbers, decltype(batch)::kQueries>(own, dim, d,
                                                     weights + size_t{query} * kWeightStride,
                                                     n_rows, acc + size_t{query} * dim + d);
      own.n_ahead = 0;
    });
  }
}

// The block's rows without its tile.
Block plain(const Block& block) {
  return {block.begin, block.end - block.begin, block.begin, block.end, false};
}

PlainRows stored(const PlaneView& plane, const Block& block, float* tile) {
  const avx2::Stored rows = avx2::stored_rows(plane, block.begin);
  if (rows.bytes > 1) return {rows.first, rows.bytes, nullptr, 0, 0};
  const float* loaded = avx2::load_values(plane, plain(block), tile);
  return {reinterpret_cast<const uint8_t*>(loaded), Singles::kBytes, nullptr, 0, 0};
}

// Rows [begin, end) of a plane, if it is one of plain rows.
void ask_for(const PlaneView& plane, uint32_t begin, uint32_t end, PlainRows* rows) {
  if (is_rotated(plane.shape.codec)) return;
  const avx2::Stored ahead = avx2::stored_rows(plane, begin);
  rows->ahead = ahead.first, rows->ahead_bytes = ahead.bytes;
  rows->n_ahead = end - begin;
}

void ask_for_next(const PlaneView& plane, const SplitCall& call, const Block& block,
                  PlainRows* rows) {
  const uint32_t left = call.row_end - block.end;
  ask_for(plane, block.end, block.end + (left < kTileRows ? left : kTileRows), rows);
}

}  // namespace

PlainRows key_rows(const SplitCall& call, const Block& block, float* tile) {
  PlainRows rows = stored(*call.k, block, tile);
  is_rotated(call.v->shape.codec) ? ask_for_next(*call.k, call, block, &rows)
                                  : ask_for(*call.v, block.begin, block.end, &rows);
  return rows;
}

PlainRows value_rows(const SplitCall& call, const Block& block, float* tile) {
  PlainRows rows = stored(*call.v, block, tile);
  ask_for_next(is_rotated(call.k->shape.codec) ? *call.v : *call.k, call, block, &rows);
  return rows;
}

void score_rows(const SplitCall& call, const Block& block, const PlainRows& rows, uint32_t first,
                uint32_t n, float* scores) {
  const uint32_t dim = call.k->shape.head_dim, n_rows = block.end - block.begin;
  const float* q = call.q + size_t{first} * dim;
  scores += block.begin - block.first;
  rows.bytes == Halves::kBytes ? score_all<Halves>(rows, n_rows, dim, q, n, scores)
                               : score_all<Singles>(rows, n_rows, dim, q, n, scores);
}

void add_rows(const SplitCall& call, const Scratch& s, const Block& block, const PlainRows& rows) {
  const PlaneView& v = *call.v;
  const uint32_t n_rows = block.end - block.begin;
  float* weights = s.weights + (block.begin - block.first);
  alignas(64) float scale[kTileRows];
  if (avx2::write_scales(v, plain(block), scale)) {
    for (uint32_t query = 0; query < call.n_queries; ++query) {
      avx2::multiply(weights + size_t{query} * kWeightStride, scale, n_rows);
    }
  }
  float* acc = v.shape.codec == PlaneCodec::paper_v3 ? call.acc_rotated : call.acc;
  rows.bytes == Halves::kBytes ? add_all<Halves>(call, rows, n_rows, weights, acc)
                               : add_all<Singles>(call, rows, n_rows, weights, acc);
}

}  // namespace polykv::avx512
