// The kernels for x86-64 with AVX-512 (F, BW, DQ, VL) and VNNI: 16 rows of weights, one a lane. As
// in kernels_avx2.cpp, nothing from elsewhere is instantiated here.
#include <immintrin.h>

#include "model/kernels_x86.h"

namespace polykv {
namespace {

// sum += products of 4 unsigned codes of each lane with the same 4 signed bytes at `four`. By hand:
// g++ 12 loads and spreads them with two instructions.
inline void add_products(__m512i& sum, const __m512i& codes, const int8_t* four) {
  asm("vpdpbusd %2%{1to16%}, %1, %0"
      : "+v"(sum)
      : "v"(codes), "m"(*reinterpret_cast<const int32_t*>(four)));
}

struct Avx512 {
  static constexpr int kRowsMax = 16;
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
    __m512i times(const int8_t* planes, __m512i start) const {
      __m512i hi = _mm512_setzero_si512(), lo = start;
#pragma GCC unroll 8
      for (int s = 0; s < kSteps; ++s) {
        add_products(hi, step[s], planes + 4 * s);
        add_products(lo, step[s], planes + 32 + 4 * s);
      }
      return _mm512_add_epi32(_mm512_slli_epi32(hi, 8), lo);
    }
  };

  // A block of a group's weights, in registers.
  template <PackedForm Form>
  struct Weights {
    const Codes<Form> codes;
    const __m512 d, min;
    const bool has_min;

    explicit Weights(const Walk::Block<Form>& block)
        : codes(block.codes),
          d(load_halves(block.scales)),
          min(block.has_min == 1 ? load_halves(block.scales + 16) : d),
          has_min(block.has_min == 1) {}
    // acc += block b of the weights times what row m of x has there.
    [[gnu::always_inline]] void add_to(__m512& acc, const Activations& x, size_t m,
                                       uint32_t b) const {
      constexpr uint32_t kInBlock = 32 / Walk::Block<Form>::kCols;
      const uint32_t part = Walk::part_of<Form>(b);
      const size_t at = m * x.n_blocks + b / kInBlock;
      const BlockFacts& facts = x.facts[at];
      __m512i start = _mm512_setzero_si512();
      if (Form != PackedForm::w4) start = _mm512_set1_epi32(facts.zeros[part]);
      const __m512i sum = codes.times(x.planes + at * 64 + b % kInBlock * 16, start);
      const __m512 scaled = _mm512_mul_ps(_mm512_set1_ps(facts.scale), _mm512_cvtepi32_ps(sum));
      acc = _mm512_fmadd_ps(d, scaled, acc);
      if (has_min) acc = _mm512_fmadd_ps(min, _mm512_set1_ps(facts.sums[part]), acc);
    }
  };

  static void store(const Weight& w, size_t m, uint32_t g, const __m512& acc, float* y) {
    const uint32_t row = g * 16;
    const uint32_t there = w.n_rows - row < 16 ? w.n_rows - row : 16;
    const auto mask = static_cast<__mmask16>((1u << there) - 1);
    _mm512_mask_storeu_ps(y + m * w.n_rows + row, mask, acc);
  }

  template <PackedForm Form, int N>
  static void group(const Weight& w, const Activations& x, uint32_t m, uint32_t g, float* y) {
    Walk::Block<Form> block(w, g);
    __m512 acc[N];
    for (__m512& lanes : acc) lanes = _mm512_setzero_ps();
    for (uint32_t b = 0; b < block.n_blocks; ++b, block.next()) {
      block.fetch_ahead();
      const Weights<Form> weights(block);
#pragma GCC unroll 16
      for (int i = 0; i < N; ++i) weights.add_to(acc[i], x, size_t{m} + i, b);
    }
    for (int i = 0; i < N; ++i) store(w, size_t{m} + i, g, acc[i], y);
  }

  // The same of one row for two groups in step.
  template <PackedForm Form>
  static void pair(const Weight& w, const Activations& x, uint32_t m, uint32_t one, uint32_t other,
                   float* y) {
    Walk::Block<Form> first(w, one), second(w, other);
    __m512 acc_first = _mm512_setzero_ps(), acc_second = acc_first;
    for (uint32_t b = 0; b < first.n_blocks; ++b, first.next(), second.next()) {
      first.fetch_ahead();
      Weights<Form>(first).add_to(acc_first, x, m, b);
      second.fetch_ahead();
      Weights<Form>(second).add_to(acc_second, x, m, b);
    }
    store(w, m, one, acc_first, y);
    store(w, m, other, acc_second, y);
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
