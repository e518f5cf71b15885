// The kernels for x86-64 with AVX-512 (F, BW, DQ, VL) and VNNI: 16 rows of weights, one a lane. As
// in kernels_avx2.cpp, nothing from elsewhere is instantiated here.
#include <immintrin.h>

#include "model/kernels_x86.h"

namespace polykv {
namespace {

// hi, lo += products of 4 unsigned codes of each lane with the same 4 signed bytes, those at `At`
// of a row's two planes. By hand: g++ 12 loads and spreads bytes with two instructions, and would
// bring a row's products together again.
template <int At>
[[gnu::always_inline]] inline void add_products(__m512i (&hi)[3], __m512i (&lo)[3],
                                                const __m512i& codes,
                                                const int8_t* const (&planes)[3]) {
  using Read = int8_t[At + 36];
  asm("vpdpbusd %c[h](%[p0])%{1to16%}, %[c], %[h0]\n\t"
      "vpdpbusd %c[h](%[p1])%{1to16%}, %[c], %[h1]\n\t"
      "vpdpbusd %c[h](%[p2])%{1to16%}, %[c], %[h2]\n\t"
      "vpdpbusd %c[l](%[p0])%{1to16%}, %[c], %[l0]\n\t"
      "vpdpbusd %c[l](%[p1])%{1to16%}, %[c], %[l1]\n\t"
      "vpdpbusd %c[l](%[p2])%{1to16%}, %[c], %[l2]"
      : [h0] "+v"(hi[0]), [h1] "+v"(hi[1]), [h2] "+v"(hi[2]), [l0] "+v"(lo[0]), [l1] "+v"(lo[1]),
        [l2] "+v"(lo[2])
      : [c] "v"(codes), [p0] "r"(planes[0]), [p1] "r"(planes[1]), [p2] "r"(planes[2]), [h] "i"(At),
        [l] "i"(At + 32), "m"(*reinterpret_cast<const Read*>(planes[0])),
        "m"(*reinterpret_cast<const Read*>(planes[1])),
        "m"(*reinterpret_cast<const Read*>(planes[2])));
}
template <int At, int R>
[[gnu::always_inline]] inline void add_products(__m512i (&hi)[R], __m512i (&lo)[R],
                                                const __m512i& codes,
                                                const int8_t* const (&planes)[R]) {
  for (int i = 0; i < R; ++i) {
    asm("vpdpbusd %2%{1to16%}, %1, %0"
        : "+v"(hi[i])
        : "v"(codes), "m"(*reinterpret_cast<const int32_t*>(planes[i] + At)));
    asm("vpdpbusd %2%{1to16%}, %1, %0"
        : "+v"(lo[i])
        : "v"(codes), "m"(*reinterpret_cast<const int32_t*>(planes[i] + At + 32)));
  }
}
// lo, hi += products of the codes with the lower plane of three rows and the upper of three others.
template <int At>
[[gnu::always_inline]] inline void add_in_turns(__m512i (&lo)[3], __m512i (&hi)[3],
                                                const __m512i& codes,
                                                const int8_t* const (&lows)[3],
                                                const int8_t* const (&highs)[3]) {
  using Read = int8_t[At + 36];
  asm("vpdpbusd %c[l](%[p0])%{1to16%}, %[c], %[l0]\n\t"
      "vpdpbusd %c[h](%[q0])%{1to16%}, %[c], %[h0]\n\t"
      "vpdpbusd %c[l](%[p1])%{1to16%}, %[c], %[l1]\n\t"
      "vpdpbusd %c[h](%[q1])%{1to16%}, %[c], %[h1]\n\t"
      "vpdpbusd %c[l](%[p2])%{1to16%}, %[c], %[l2]\n\t"
      "vpdpbusd %c[h](%[q2])%{1to16%}, %[c], %[h2]"
      : [h0] "+v"(hi[0]), [h1] "+v"(hi[1]), [h2] "+v"(hi[2]), [l0] "+v"(lo[0]), [l1] "+v"(lo[1]),
        [l2] "+v"(lo[2])
      : [c] "v"(codes), [p0] "r"(lows[0]), [p1] "r"(lows[1]), [p2] "r"(lows[2]), [q0] "r"(highs[0]),
        [q1] "r"(highs[1]), [q2] "r"(highs[2]), [h] "i"(At), [l] "i"(At + 32),
        "m"(*reinterpret_cast<const Read*>(lows[0])), "m"(*reinterpret_cast<const Read*>(lows[1])),
        "m"(*reinterpret_cast<const Read*>(lows[2])), "m"(*reinterpret_cast<const Read*>(highs[0])),
        "m"(*reinterpret_cast<const Read*>(highs[1])),
        "m"(*reinterpret_cast<const Read*>(highs[2])));
}
template <int At>
[[gnu::always_inline]] inline void add_plane(__m512i (&sums)[3], const __m512i& codes,
                                             const int8_t* const (&planes)[3]) {
  using Read = int8_t[At + 4];
  asm("vpdpbusd %c[h](%[p0])%{1to16%}, %[c], %[h0]\n\t"
      "vpdpbusd %c[h](%[p1])%{1to16%}, %[c], %[h1]\n\t"
      "vpdpbusd %c[h](%[p2])%{1to16%}, %[c], %[h2]"
      : [h0] "+v"(sums[0]), [h1] "+v"(sums[1]), [h2] "+v"(sums[2])
      : [c] "v"(codes), [p0] "r"(planes[0]), [p1] "r"(planes[1]), [p2] "r"(planes[2]), [h] "i"(At),
        "m"(*reinterpret_cast<const Read*>(planes[0])),
        "m"(*reinterpret_cast<const Read*>(planes[1])),
        "m"(*reinterpret_cast<const Read*>(planes[2])));
}
// Zero that costs no arithmetic unit: g++ 12 would copy it from another register.
[[gnu::always_inline]] inline __m512i zero() {
  __m512i none;
  asm volatile("vpxord %0, %0, %0" : "=v"(none));
  return none;
}

struct Avx512 {
  static constexpr int kRowsMax = 16;
  static constexpr int kInStep = 3;  // rows whose sums fit beside the weights and all results
  static constexpr bool kPairs = true;
  using Walk = PackedWalk<Avx512>;

  static __m512 load_halves(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }

  template <PackedForm Form>
  struct Codes {
    static constexpr int kSteps = Walk::Block<Form>::kCols / 4;
    __m512i step[kSteps];

    explicit Codes(const uint8_t* bytes) {
      const __m512i nibble = _mm512_set1_epi8(15);
      if constexpr (Form == PackedForm::w4) {
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) {
          const __m512i both = _mm512_loadu_si512(bytes + 64 * v);
          step[v] = _mm512_and_si512(both, nibble);
          step[v + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble);
        }
      } else {
#pragma GCC unroll 8
        for (int s = 0; s < kSteps; ++s) step[s] = _mm512_loadu_si512(bytes + 64 * s);
      }
    }
    // Products with R rows, `row` bytes apart: 256 * hi + lo, of which lo starts at start[i]. The
    // rows go in step: one's sums, each waiting for its last, would fill the processor's window.
    template <int R, int S = 0>
    [[gnu::always_inline]] void add_steps(const int8_t* const (&planes)[R], __m512i (&hi)[R],
                                          __m512i (&lo)[R]) const {
      add_products<4 * S>(hi, lo, step[S], planes);
      if constexpr (S + 1 < kSteps) add_steps<R, S + 1>(planes, hi, lo);
    }
    template <int R>
    [[gnu::always_inline]] void times(const int8_t* first, size_t row, __m512i (&start)[R]) const {
      const int8_t* planes[R];
      __m512i hi[R];
#pragma GCC unroll 4
      for (int i = 0; i < R; ++i) planes[i] = first + i * row, hi[i] = zero();
      add_steps<R>(planes, hi, start);
#pragma GCC unroll 4
      for (int i = 0; i < R; ++i) {
        start[i] = _mm512_add_epi32(_mm512_slli_epi32(hi[i], 8), start[i]);
      }
    }
  };

  // Rows in threes: one three's products with the lower plane go in step with the next one's with
  // the upper, whose sums, shifted, are what the lower's start from.
  struct Three {
    __m512i sums[3];
    const int8_t* planes[3];

    [[gnu::always_inline]] explicit Three(const int8_t* first, size_t row) {
      for (int i = 0; i < 3; ++i) planes[i] = first + i * row, sums[i] = zero();
    }
    [[gnu::always_inline]] void shift() {
      for (__m512i& sum : sums) sum = _mm512_slli_epi32(sum, 8);
    }
  };
  template <int S, class Steps>
  [[gnu::always_inline]] static void add_upper(const Steps& step, Three& next) {
    add_plane<4 * S>(next.sums, step[S], next.planes);
    if constexpr (S < 7) add_upper<S + 1>(step, next);
  }
  template <int S, class Steps>
  [[gnu::always_inline]] static void add_lower(const Steps& step, Three& now) {
    add_plane<4 * S + 32>(now.sums, step[S], now.planes);
    if constexpr (S < 7) add_lower<S + 1>(step, now);
  }
  template <int S, class Steps>
  [[gnu::always_inline]] static void add_both(const Steps& step, Three& now, Three& next) {
    add_in_turns<4 * S>(now.sums, next.sums, step[S], now.planes, next.planes);
    if constexpr (S < 7) add_both<S + 1>(step, now, next);
  }

  // A block of a group's weights, in registers. HasMin is known early, or g++ 12 would keep results
  // in memory.
  template <PackedForm Form, bool HasMin>
  struct Weights {
    static constexpr uint32_t kInBlock = 32 / Walk::Block<Form>::kCols;
    const Codes<Form> codes;
    const __m512 d, min;

    explicit Weights(const Walk::Block<Form>& block)
        : codes(block.codes),
          d(load_halves(block.scales)),
          min(HasMin ? load_halves(block.scales + 16) : d) {}
    // acc[i] += block b of the weights times what row m + i of x has there, for R rows.
    template <int R>
    [[gnu::always_inline]] void add_to(__m512* acc, const Activations& x, size_t m,
                                       uint32_t b) const {
      const uint32_t part = Walk::part_of<Form>(b);
      const size_t at = m * x.n_blocks + b / kInBlock;
      const BlockFacts* facts = x.facts + at;
      __m512i sums[R];
#pragma GCC unroll 4
      for (size_t i = 0; i < R; ++i) {
        sums[i] =
            Form == PackedForm::w4 ? zero() : _mm512_set1_epi32(facts[i * x.n_blocks].zeros[part]);
      }
      codes.times(x.planes + at * 64 + b % kInBlock * 16, size_t{x.n_blocks} * 64, sums);
#pragma GCC unroll 4
      for (int i = 0; i < R; ++i, facts += x.n_blocks) {
        const __m512 sum = _mm512_cvtepi32_ps(sums[i]);
        acc[i] = _mm512_fmadd_ps(d, _mm512_mul_ps(_mm512_set1_ps(facts->scale), sum), acc[i]);
        if (HasMin) acc[i] = _mm512_fmadd_ps(min, _mm512_set1_ps(facts->sums[part]), acc[i]);
      }
    }
    // acc[i] += products with three rows; facts: of their block, `apart` from row to row.
    [[gnu::always_inline]] void use(__m512* acc, const BlockFacts* facts, size_t apart,
                                    const Three& now) const {
#pragma GCC unroll 4
      for (int i = 0; i < 3; ++i, facts += apart) {
        const __m512 sum = _mm512_cvtepi32_ps(now.sums[i]);
        acc[i] = _mm512_fmadd_ps(d, _mm512_mul_ps(_mm512_set1_ps(facts->scale), sum), acc[i]);
        if (HasMin) acc[i] = _mm512_fmadd_ps(min, _mm512_set1_ps(facts->sums[0]), acc[i]);
      }
    }
    template <int N>
    [[gnu::always_inline]] void in_turns(__m512* acc, const int8_t* planes, const BlockFacts* facts,
                                         size_t apart, Three& now) const {
      if constexpr (N > 3) {
        Three next(planes + 3 * 64 * apart, 64 * apart);
        add_both<0>(codes.step, now, next);
        use(acc, facts, apart, now);
        next.shift();
        in_turns<N - 3>(acc + 3, planes + 3 * 64 * apart, facts + 3 * apart, apart, next);
      } else {
        add_lower<0>(codes.step, now);
        use(acc, facts, apart, now);
      }
    }
    // The same of N rows, a few at a time.
    template <int N>
    [[gnu::always_inline]] void add(__m512* acc, const Activations& x, size_t m, uint32_t b) const {
      if constexpr (Form == PackedForm::w4 && N >= 6) {
        constexpr int kThrees = N / 3 * 3;
        const size_t at = m * x.n_blocks + b;
        const int8_t* planes = x.planes + at * 64;
        Three first(planes, size_t{64} * x.n_blocks);
        add_upper<0>(codes.step, first);
        first.shift();
        in_turns<kThrees>(acc, planes, x.facts + at, x.n_blocks, first);
        if constexpr (N > kThrees) add_to<N - kThrees>(acc + kThrees, x, m + kThrees, b);
        return;
      }
      constexpr int kNow = N < kInStep ? N : kInStep;
      add_to<kNow>(acc, x, m, b);
      if constexpr (N > kNow) add<N - kNow>(acc + kNow, x, m + kNow, b);
    }
  };

  [[gnu::always_inline]] static void store(const Weight& w, size_t m, uint32_t g, __m512 acc,
                                           float* y) {
    const uint32_t row = g * 16;
    const uint32_t there = w.n_rows - row < 16 ? w.n_rows - row : 16;
    const auto mask = static_cast<__mmask16>((1u << there) - 1);
    _mm512_mask_storeu_ps(y + m * w.n_rows + row, mask, acc);
  }

  template <PackedForm Form, int N, bool HasMin>
  static void group(const Weight& w, const Activations& x, uint32_t m, uint32_t g, float* y) {
    Walk::Block<Form> block(w, g);
    __m512 acc[N];
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) acc[i] = _mm512_setzero_ps();
    for (uint32_t b = 0; b < block.n_blocks; ++b, block.next()) {
      block.fetch_ahead();
      Weights<Form, HasMin>(block).template add<N>(acc, x, m, b);
    }
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) store(w, size_t{m} + i, g, acc[i], y);
  }
  template <PackedForm Form, int N>
  static void group(const Weight& w, const Activations& x, uint32_t m, uint32_t g, float* y) {
    if (Form == PackedForm::w4 || w.has_min == 1) return group<Form, N, true>(w, x, m, g, y);
    if constexpr (Form != PackedForm::w4) group<Form, N, false>(w, x, m, g, y);
  }

  // The same of one row for two groups in step.
  template <PackedForm Form, bool HasMin>
  static void pair(const Weight& w, const Activations& x, uint32_t m, uint32_t one, uint32_t other,
                   float* y) {
    Walk::Block<Form> first(w, one), second(w, other);
    __m512 acc_first = _mm512_setzero_ps(), acc_second = acc_first;
    for (uint32_t b = 0; b < first.n_blocks; ++b, first.next(), second.next()) {
      first.fetch_ahead();
      Weights<Form, HasMin>(first).template add<1>(&acc_first, x, m, b);
      second.fetch_ahead();
      Weights<Form, HasMin>(second).template add<1>(&acc_second, x, m, b);
    }
    store(w, m, one, acc_first, y);
    store(w, m, other, acc_second, y);
  }
  template <PackedForm Form>
  static void pair(const Weight& w, const Activations& x, uint32_t m, uint32_t one, uint32_t other,
                   float* y) {
    if (Form == PackedForm::w4 || w.has_min == 1) return pair<Form, true>(w, x, m, one, other, y);
    if constexpr (Form != PackedForm::w4) pair<Form, false>(w, x, m, one, other, y);
  }
};

}  // namespace

void matmul_avx512(const Weight& w, const Activations& x, uint32_t row_begin, uint32_t row_end,
                   float* y, float* scratch) {
  if (w.type == WeightType::w4 || w.type == WeightType::w8) {
    return PackedWalk<Avx512>::matmul(w, x, row_begin, row_end, y);
  }
  matmul_plain_avx2(w, x, row_begin, row_end, y, scratch);
}

}  // namespace polykv
