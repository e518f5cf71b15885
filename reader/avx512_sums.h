// Integer sums of the AVX-512 kernels: products of points of codes with rows of bytes, in
// registers. All is inlined always: no copy of it may be merged with that of a file that is
// compiled for another CPU. Internal to reader/.
#pragma once

#include <immintrin.h>

#include "reader/avx512_block.h"

namespace polykv::avx512 {

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

}  // namespace polykv::avx512
