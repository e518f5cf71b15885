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

#include "reader/avx512_ends.h"
#include "reader/split_walk.h"

namespace polykv::avx512 {
namespace {

struct Batches {};
using Walk = SplitWalk<Batches>;

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

// Products of points with rows of bytes.
struct Steps {
  const uint8_t* points;  // 4 vectors a step
  size_t points_step;     // bytes from one step to the next
  Rows rows;
  uint32_t begin, end;
};
template <PlaneKind Kind, int Planes, int N>
[[gnu::always_inline]] inline void add_steps(const Steps& steps, Sums<N>& sums) {
  const uint8_t* points = steps.points + steps.begin * steps.points_step;
  for (uint32_t i = steps.begin; i < steps.end; ++i, points += steps.points_step) {
    Four four = {_mm512_loadu_si512(points), _mm512_loadu_si512(points + 64),
                 _mm512_loadu_si512(points + 128), _mm512_loadu_si512(points + 192)};
    // Keeps g++ 12 from loading them again for every row.
    asm("" : "+v"(four.v0), "+v"(four.v1), "+v"(four.v2), "+v"(four.v3));
    add_step<Kind, Planes, N>(sums, four, steps.rows, i);
  }
}

// Of queries with `Planes` rows of bytes each, from start[n] on: products [n, kProductStride].
template <int Planes>
void multiply_keys(const Steps& steps, uint32_t n, const int32_t* start, int32_t* products) {
  Walk::in_batches<6 / Planes>(n, [&](uint32_t query, auto batch) {
    constexpr int kN = decltype(batch)::kQueries;
    Sums<kN * Planes> sums;
    start_sums<Planes, kN>(start + query, sums);
    Steps own = steps;
    own.rows.first += query * steps.rows.query;
    add_steps<PlaneKind::k, Planes>(own, sums);
    put_sums<Planes, kN>(sums, products + size_t{query} * kProductStride);
  });
}
// Of all queries' weights, straight to their sums.
template <int Planes>
void add_values(const SplitCall& call, const Scratch& scratch, const Steps& steps, uint32_t d) {
  const uint32_t dim = call.v->shape.head_dim;
  const __m512 unit = _mm512_set1_ps(value_unit(*call.v));
  Walk::in_batches<6 / Planes>(call.n_queries, [&](uint32_t query, auto batch) {
    constexpr int kN = decltype(batch)::kQueries;
    constexpr int32_t kZeros[kN] = {};
    Sums<kN * Planes> sums;
    start_sums<Planes, kN>(kZeros, sums);
    Steps own = steps;
    own.rows.first += query * steps.rows.query;
    for (uint32_t i = query; d == 0 && i < query + kN; ++i) fetch_share(scratch, i);
    add_steps<PlaneKind::v, Planes>(own, sums);
    float* acc = call.acc_rotated + size_t{query} * dim + d;
    add_sums<Planes, kN>(sums, {acc, scratch.gain + query, dim, unit});
  });
}

}  // namespace

void prepare_queries(const SplitCall& call, const Scratch& scratch) {
  const uint32_t dim = call.k->shape.head_dim;
  for (uint32_t query = 0; query < call.n_queries; ++query) {
    quantise_query(call.q_rotated + size_t{query} * dim, dim, has_wide_queries(*call.k),
                   scratch.q + size_t{query} * 2 * dim, scratch.q_step + query,
                   scratch.q_start + query);
  }
}

void Vnni::score(const SplitCall& call, const Scratch& scratch, const Block& block,
                 const uint8_t* points, uint32_t first, uint32_t n, int32_t* products) {
  const uint32_t dim = call.k->shape.head_dim;
  const Rows rows{scratch.q + size_t{first} * 2 * dim, size_t{2} * dim, dim};
  const Steps steps{points, size_t{4} * block.rows, rows, 0, dim / 4};
  const int32_t* start = scratch.q_start + first;
  has_wide_queries(*call.k) ? multiply_keys<2>(steps, n, start, products)
                            : multiply_keys<1>(steps, n, start, products);
}

void Vnni::add(const SplitCall& call, const Scratch& scratch, const Block& block,
               const uint8_t* points, uint32_t d) {
  const Rows rows{reinterpret_cast<const int8_t*>(scratch.weights), kWeightStride * sizeof(float),
                  kTileRows};
  const Steps steps{points + size_t{d} * 4, size_t{4} * call.v->shape.head_dim, rows,
                    (block.begin - block.first) / 4, (block.end - block.first + 3) / 4};
  has_wide_weights(*call.v) ? add_values<2>(call, scratch, steps, d)
                            : add_values<1>(call, scratch, steps, d);
}

}  // namespace polykv::avx512
