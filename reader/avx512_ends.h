// What becomes of integer sums of the AVX-512 kernels: products in memory, or sums of values; and
// what each asks memory for meanwhile. As in
// avx512_sums.h, all is inlined always. Internal to reader/.
#pragma once

#include <immintrin.h>

#include "reader/avx512_block.h"
#include "reader/avx512_sums.h"

namespace polykv::avx512 {

// One query's share of the second half of the tile to come. Inlined early, or g++ 12 drops it.
[[gnu::always_inline]] inline void fetch_share(const Scratch& s, uint32_t query) {
  if (s.ahead == nullptr) return;
  const uint32_t begin = s.ahead_bytes / 2 + query * s.ahead_share;
  for (uint32_t at = begin; at < begin + s.ahead_share && at < s.ahead_bytes; at += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(s.ahead + at), _MM_HINT_T0);
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

// Where sums of values go: 64 dimensions of each query, acc += gain * unit * sum.
struct ValueEnd {
  float* acc;         // of the first query
  const float* gain;  // [N]
  uint32_t dim;       // from query to query
  __m512 unit;
};
[[gnu::always_inline]] inline void add_to(float* acc, __m512i sum, __m512 gain) {
  _mm512_storeu_ps(acc, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), gain, _mm512_loadu_ps(acc)));
}
[[gnu::always_inline]] inline void add_four(const ValueEnd& end, int query, const Four& sum) {
  const __m512 gain = _mm512_mul_ps(_mm512_set1_ps(end.gain[query]), end.unit);
  float* acc = end.acc + size_t(query) * end.dim;
  add_to(acc, sum.v0, gain);
  add_to(acc + 16, sum.v1, gain);
  add_to(acc + 32, sum.v2, gain);
  add_to(acc + 48, sum.v3, gain);
}
template <int Planes, int N>
[[gnu::always_inline]] inline void add_sums(const Sums<N * Planes>& sums, const ValueEnd& end) {
  if constexpr (N > 0 && Planes == 2) {
    add_sums<Planes, N - 1>(sums.less.less, end);
    add_four(end, N - 1, join(sums.less.last, sums.last));
  } else if constexpr (N > 0) {
    add_sums<Planes, N - 1>(sums.less, end);
    add_four(end, N - 1, sums.last);
  }
}

}  // namespace polykv::avx512
