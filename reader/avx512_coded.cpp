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

// One step's share of the next tile. Inlined early, or g++ 12 drops it as a function without
// effect.
[[gnu::always_inline]] inline void fetch(const uint8_t* ahead, uint32_t ahead_step, uint32_t step) {
  if (ahead == nullptr) return;
  const auto* at = reinterpret_cast<const char*>(ahead + size_t{step} * ahead_step);
  _mm_prefetch(at, _MM_HINT_T0);
}

struct Four {
  __m512i v0, v1, v2, v3;
};
// Accumulators of N rows of integers. Not an array: g++ 12 would keep a copy of it on the stack and
// write it in every step (twice the time).
template <int N>
struct Sums {
  Sums<N - 1> less;
  Four last;
};
template <>
struct Sums<0> {};

// sum += products of 4 unsigned and 4 signed bytes in each lane. By hand: g++ 12 moves the
// accumulator around.
[[gnu::always_inline]] inline void add_products(__m512i& sum, const __m512i& u8,
                                                const __m512i& s8) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(u8), "v"(s8));
}

// The same for points of codes and the same 4 bytes of an integer row for all. Which of both is
// signed differs between K and V.
template <PlaneKind Kind>
[[gnu::always_inline]] inline void add_point_products(__m512i& sum, const __m512i& points,
                                                      const __m512i& four) {
  if constexpr (Kind == PlaneKind::k) {
    add_products(sum, points, four);
  } else {
    add_products(sum, four, points);
  }
}

// Rows of bytes, 4 of each a step: `Planes` for each query, `plane` bytes apart.
struct Rows {
  const int8_t* first;
  size_t query, plane;  // bytes to the next
};

// One step for each row.
template <PlaneKind Kind, int Planes, int N>
[[gnu::always_inline]] inline void add_step(Sums<N>& sums, const Four& points, const Rows& rows,
                                            uint32_t step) {
  if constexpr (N > 0) {
    add_step<Kind, Planes, N - 1>(sums.less, points, rows, step);
    const int8_t* row = rows.first + (N - 1) / Planes * rows.query + (N - 1) % Planes * rows.plane;
    __m512i four;
    asm("vpbroadcastd %1, %0"
        : "=v"(four)
        : "m"(*reinterpret_cast<const int32_t*>(row + 4 * size_t{step})));
    add_point_products<Kind>(sums.last.v0, points.v0, four);
    add_point_products<Kind>(sums.last.v1, points.v1, four);
    add_point_products<Kind>(sums.last.v2, points.v2, four);
    add_point_products<Kind>(sums.last.v3, points.v3, four);
  }
}

// The second half of the tile to come: decoding asks for the first (reader/avx512_decode.h).
const uint8_t* second_half(const Scratch& scratch, uint32_t dim) {
  if (scratch.ahead == nullptr) return nullptr;
  return scratch.ahead + size_t{dim} / 4 * scratch.ahead_step;
}

// Products of points with rows of bytes, and a little of the next tile.
struct Steps {
  const uint8_t* points;  // 4 vectors a step
  size_t points_step;     // bytes from one step to the next
  Rows rows;
  uint32_t begin, end;
  const uint8_t* ahead;
  uint32_t ahead_step;
};
template <PlaneKind Kind, int Planes, int N>
[[gnu::always_inline]] inline void add_steps(const Steps& steps, Sums<N>& sums) {
  const uint8_t* points = steps.points + steps.begin * steps.points_step;
  for (uint32_t i = steps.begin; i < steps.end; ++i, points += steps.points_step) {
    fetch(steps.ahead, steps.ahead_step, i);
    Four four = {_mm512_loadu_si512(points), _mm512_loadu_si512(points + 64),
                 _mm512_loadu_si512(points + 128), _mm512_loadu_si512(points + 192)};
    // Keeps g++ 12 from loading them again for every row.
    asm("" : "+v"(four.v0), "+v"(four.v1), "+v"(four.v2), "+v"(four.v3));
    add_step<Kind, Planes, N>(sums, four, steps.rows, i);
  }
}

[[gnu::always_inline]] inline Four repeated(__m512i v) { return {v, v, v, v}; }

[[gnu::always_inline]] inline __m512i join(__m512i hi, __m512i lo) {
  return _mm512_add_epi32(_mm512_slli_epi32(hi, 8), lo);
}
[[gnu::always_inline]] inline Four join(const Four& hi, const Four& lo) {
  return {join(hi.v0, lo.v0), join(hi.v1, lo.v1), join(hi.v2, lo.v2), join(hi.v3, lo.v3)};
}

// Accumulators of N queries with `Planes` rows each, hi before lo; the last row starts at start[i].
template <int Planes, int N>
[[gnu::always_inline]] inline void start_sums(const int32_t* start, Sums<N * Planes>& sums) {
  if constexpr (N > 0 && Planes == 2) {
    sums.last = repeated(_mm512_set1_epi32(start[N - 1]));
    sums.less.last = repeated(_mm512_setzero_si512());
    start_sums<Planes, N - 1>(start, sums.less.less);
  } else if constexpr (N > 0) {
    sums.last = repeated(_mm512_set1_epi32(start[N - 1]));
    start_sums<Planes, N - 1>(start, sums.less);
  }
}

// What scores are made of, for N queries.
struct ScoreEnd {
  const float* step;    // [N]
  const float* mean;    // [N]
  const __m512* scale;  // [4]
  float* out;           // [N, kScoreStride]
};
[[gnu::always_inline]] inline void end_score(const ScoreEnd& end, int query, int v, __m512i sum) {
  const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(end.step[query]));
  _mm512_storeu_ps(end.out + size_t(query) * avx2::kScoreStride + 16 * v,
                   _mm512_fmadd_ps(scaled, end.scale[v], _mm512_set1_ps(end.mean[query])));
}
// What values are added to, for N queries.
struct ValueEnd {
  const float* weights;  // [N, kScoreStride]: quantised ones
  float* acc;            // [N, dim]
  uint32_t dim;
};
// A tile's quantised weights where its 64 weights were: [2, 64] bytes, then their step.
constexpr size_t kStepAt = 2 * kTileRows / sizeof(float);
[[gnu::always_inline]] inline void end_value(const ValueEnd& end, int query, int v, __m512i sum) {
  float* out = end.acc + size_t(query) * end.dim + 16 * v;
  const __m512 step = _mm512_set1_ps(end.weights[size_t(query) * avx2::kScoreStride + kStepAt]);
  _mm512_storeu_ps(out, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), step, _mm512_loadu_ps(out)));
}
[[gnu::always_inline]] inline void end_one(const ScoreEnd& end, int query, int v, __m512i sum) {
  end_score(end, query, v, sum);
}
[[gnu::always_inline]] inline void end_one(const ValueEnd& end, int query, int v, __m512i sum) {
  end_value(end, query, v, sum);
}
template <class End>
[[gnu::always_inline]] inline void end_four(const End& end, int query, const Four& sum) {
  end_one(end, query, 0, sum.v0);
  end_one(end, query, 1, sum.v1);
  end_one(end, query, 2, sum.v2);
  end_one(end, query, 3, sum.v3);
}
template <int Planes, int N, class End>
[[gnu::always_inline]] inline void end_sums(const End& end, const Sums<N * Planes>& sums) {
  if constexpr (N > 0 && Planes == 2) {
    end_sums<Planes, N - 1>(end, sums.less.less);
    end_four(end, N - 1, join(sums.less.last, sums.last));
  } else if constexpr (N > 0) {
    end_sums<Planes, N - 1>(end, sums.less);
    end_four(end, N - 1, sums.last);
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
  Walk::in_batches<6 / Planes>(call.n_queries, [&](uint32_t query, auto batch) {
    constexpr int kN = decltype(batch)::kQueries;
    Sums<kN * Planes> sums;
    start_sums<Planes, kN>(scratch.q_start + query, sums);
    const Rows rows{scratch.q + size_t{query} * 2 * dim, size_t{2} * dim, dim};
    add_steps<PlaneKind::k, Planes>(
        Steps{tile, size_t{4} * block.rows, rows, 0, dim / 4,
              query == 0 ? second_half(scratch, dim) : nullptr, scratch.ahead_step},
        sums);
    end_sums<Planes, kN>(ScoreEnd{scratch.q_step + query, call.q_mean + query, &scale[0],
                                  scores + size_t{query} * avx2::kScoreStride},
                         sums);
  });
}

// 64 numbers up to 255, in order.
__m512i bytes_of(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i mixed = _mm512_packus_epi16(_mm512_packus_epi32(a, b), _mm512_packus_epi32(c, d));
  return _mm512_permutexvar_epi32(order, mixed);
}

// A tile's weights of one query as bytes, hi and lo, or hi alone, in place. 0 outside the block.
template <int Planes>
void quantise_weights(float* weights, const __m512 (&scale)[4], __mmask64 inside) {
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
  weights[kStepAt] = there ? largest / kMost : 0.0f;
  const __m512 inverse = _mm512_set1_ps(there ? kMost / largest : 0.0f);
  auto* out = reinterpret_cast<int8_t*>(weights);
  __m512i q[4];
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) q[v] = _mm512_cvtps_epi32(_mm512_mul_ps(p[v], inverse));
  if constexpr (Planes == 2) {
    const __m512i low = _mm512_set1_epi32(255);
    _mm512_storeu_si512(out + 64,
                        bytes_of(_mm512_and_si512(q[0], low), _mm512_and_si512(q[1], low),
                                 _mm512_and_si512(q[2], low), _mm512_and_si512(q[3], low)));
    for (__m512i& number : q) number = _mm512_srli_epi32(number, 8);
  }
  _mm512_storeu_si512(out, bytes_of(q[0], q[1], q[2], q[3]));
}

// Where the weights of a tile's first token are.
float* weights_of(const SplitCall& call, const Scratch& scratch, const Block& block) {
  return scratch.scores + (kTileRows + block.first - call.row_begin);
}

template <int Planes>
void quantise_with(const SplitCall& call, const Scratch& scratch, const Block& block) {
  const uint32_t begin = block.begin - block.first, end = block.end - block.first;
  __m512 scale[4];
  load_scales(*call.v, block, point_step(*call.v), scale);
  const __mmask64 inside = first_tokens(end) & ~first_tokens(begin);
  float* weights = weights_of(call, scratch, block);
  for (uint32_t query = 0; query < call.n_queries; ++query, weights += avx2::kScoreStride) {
    quantise_weights<Planes>(weights, scale, inside);
  }
}

template <int Planes>
void add_with(const SplitCall& call, const Scratch& scratch, const Block& block,
              const uint8_t* tile) {
  const uint32_t dim = call.v->shape.head_dim;
  const uint32_t begin = (block.begin - block.first) / 4, end = (block.end - block.first + 3) / 4;
  for (uint32_t d = 0; d < dim; d += 64) {
    const uint8_t* ahead = second_half(scratch, dim);
    if (ahead != nullptr) ahead += size_t{d} / 4 * scratch.ahead_step;
    Walk::in_batches<6 / Planes>(call.n_queries, [&](uint32_t query, auto batch) {
      constexpr int kN = decltype(batch)::kQueries;
      constexpr int32_t kZeros[kN] = {};
      const float* weights = weights_of(call, scratch, block) + size_t{query} * avx2::kScoreStride;
      const Rows rows{reinterpret_cast<const int8_t*>(weights), avx2::kScoreStride * sizeof(float),
                      kTileRows};
      Sums<kN * Planes> sums;
      start_sums<Planes, kN>(kZeros, sums);
      add_steps<PlaneKind::v, Planes>(Steps{tile + size_t{d} * 4, size_t{4} * dim, rows, begin, end,
                                            query == 0 ? ahead : nullptr, scratch.ahead_step},
                                      sums);
      end_sums<Planes, kN>(ValueEnd{weights, call.acc_rotated + size_t{query} * dim + d, dim},
                           sums);
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

void quantise_tile(const SplitCall& call, const Scratch& scratch, const Block& block) {
  const bool wide = code_bits(call.v->shape.codec) == 8;
  wide ? quantise_with<2>(call, scratch, block) : quantise_with<1>(call, scratch, block);
}

void add_tile(const SplitCall& call, const Scratch& scratch, const Block& block,
              const uint8_t* points) {
  const bool wide = code_bits(call.v->shape.codec) == 8;
  wide ? add_with<2>(call, scratch, block, points) : add_with<1>(call, scratch, block, points);
}

}  // namespace polykv::avx512
