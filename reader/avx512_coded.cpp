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

[[gnu::always_inline]] inline void put(int32_t* out, const Four& sum) {
  _mm512_store_si512(out, sum.v0);
  _mm512_store_si512(out + 16, sum.v1);
  _mm512_store_si512(out + 32, sum.v2);
  _mm512_store_si512(out + 48, sum.v3);
}
// out: [N, kProductStride]
template <int Planes, int N>
[[gnu::always_inline]] inline void put_sums(const Sums<N * Planes>& sums, int32_t* out) {
  if constexpr (N > 0 && Planes == 2) {
    put_sums<Planes, N - 1>(sums.less.less, out);
    put(out + (N - 1) * kProductStride, join(sums.less.last, sums.last));
  } else if constexpr (N > 0) {
    put_sums<Planes, N - 1>(sums.less, out);
    put(out + (N - 1) * kProductStride, sums.last);
  }
}

// Of queries with `Planes` rows of bytes each; start: [n], or nullptr.
template <PlaneKind Kind, int Planes>
void multiply(const Steps& steps, uint32_t n, const int32_t* start, int32_t* out) {
  Walk::in_batches<6 / Planes>(n, [&](uint32_t query, auto batch) {
    constexpr int kN = decltype(batch)::kQueries;
    constexpr int32_t kZeros[kN] = {};
    Sums<kN * Planes> sums;
    start_sums<Planes, kN>(start == nullptr ? kZeros : start + query, sums);
    Steps own = steps;
    own.rows.first += query * steps.rows.query;
    add_steps<Kind, Planes>(own, sums);
    put_sums<Planes, kN>(sums, out + size_t{query} * kProductStride);
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
  has_wide_queries(*call.k) ? multiply<PlaneKind::k, 2>(steps, n, start, products)
                            : multiply<PlaneKind::k, 1>(steps, n, start, products);
}

void Vnni::add(const SplitCall& call, const Scratch& scratch, const Block& block,
               const uint8_t* points, uint32_t first, uint32_t n, uint32_t d, int32_t* products) {
  const uint32_t dim = call.v->shape.head_dim;
  const auto* weights =
      reinterpret_cast<const int8_t*>(scratch.weights + size_t{first} * kWeightStride);
  const Rows rows{weights, kWeightStride * sizeof(float), kTileRows};
  const Steps steps{points + size_t{d} * 4, size_t{4} * dim, rows, (block.begin - block.first) / 4,
                    (block.end - block.first + 3) / 4};
  has_wide_weights(*call.v) ? multiply<PlaneKind::v, 2>(steps, n, nullptr, products)
                            : multiply<PlaneKind::v, 1>(steps, n, nullptr, products);
}

}  // namespace polykv::avx512
