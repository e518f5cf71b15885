// The kernels for x86-64 with AVX2, FMA and F16C. Built with those switches: nothing of the
// standard library, and no inline function of ours, may be instantiated here, or the linker could
// give its copy to code for older CPUs.
#include <immintrin.h>

#include "model/kernels_x86.h"

namespace polykv {
namespace {

const __m256i* as_vector(const void* p) { return static_cast<const __m256i*>(p); }

// Largest magnitude of 32 numbers, as bits of a float.
uint32_t largest_bits(const float* x) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i top = _mm256_setzero_si256();
  for (int i = 0; i < 32; i += 8) {
    const __m256i bits = _mm256_and_si256(_mm256_loadu_si256(as_vector(x + i)), magnitude);
    top = _mm256_max_epi32(top, bits);
  }
  __m128i four = _mm_max_epi32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  four = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0xb1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(four));
}

// 16 numbers as q.
__m256i quantise_16(const float* x, float inverse) {
  const __m256 by = _mm256_set1_ps(inverse);
  const __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), by));
  const __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), by));
  return _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
}

int sum_16(__m256i q) {
  const __m256i pairs = _mm256_madd_epi16(q, _mm256_set1_epi16(1));
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

void store_planes(__m256i q0, __m256i q1, int8_t* planes) {
  const __m256i half = _mm256_set1_epi16(128);
  const __m256i hi0 = _mm256_srai_epi16(_mm256_add_epi16(q0, half), 8);
  const __m256i hi1 = _mm256_srai_epi16(_mm256_add_epi16(q1, half), 8);
  const __m256i lo0 = _mm256_sub_epi16(q0, _mm256_slli_epi16(hi0, 8));
  const __m256i lo1 = _mm256_sub_epi16(q1, _mm256_slli_epi16(hi1, 8));
  const __m256i hi = _mm256_permute4x64_epi64(_mm256_packs_epi16(hi0, hi1), 0xd8);
  const __m256i lo = _mm256_permute4x64_epi64(_mm256_packs_epi16(lo0, lo1), 0xd8);
  _mm256_store_si256(reinterpret_cast<__m256i*>(planes), hi);
  _mm256_store_si256(reinterpret_cast<__m256i*>(planes + 32), lo);
}

// x: 32 numbers.
void quantise_block(const float* x, int8_t* planes, int16_t* wide, BlockFacts* facts) {
  float inverse;
  set_block_scale(largest_bits(x), facts, &inverse);
  __m256i q0 = _mm256_setzero_si256(), q1 = q0;
  if (inverse != 0) {
    q0 = quantise_16(x, inverse);
    q1 = quantise_16(x + 16, inverse);
  }
  _mm256_store_si256(reinterpret_cast<__m256i*>(wide), q0);
  _mm256_store_si256(reinterpret_cast<__m256i*>(wide + 16), q1);
  store_planes(q0, q1, planes);
  const int s0 = sum_16(q0), s1 = sum_16(q1);
  const int all[3] = {s0 + s1, s0, s1};
  for (int i = 0; i < 3; ++i) {
    facts->sums[i] = facts->scale * static_cast<float>(all[i]);
    facts->zeros[i] = -128 * all[i];
  }
  facts->reserved = 0;
}

// Whether the lanes of `upto` rows are stored: of 8 rows from `first`.
__m256i rows_there(uint32_t n_rows, uint32_t first) {
  const auto there = static_cast<int>(n_rows > first ? n_rows - first : 0);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(there), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// 8 rows of a block's step of 4 columns are 32 bytes; a group is walked twice, 8 rows at a time.
struct Avx2 {
  static constexpr int kRowsMax = 4;
  static constexpr bool kPairs = false;
  using Walk = PackedWalk<Avx2>;

  static __m256 load_halves(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }

  // Codes are at most 15 and |x| at most 128: 8 steps of two products fit 16 bits.
  static __m256i sum_w4(const __m256i (&codes)[8], const int8_t* planes) {
    __m256i hi = _mm256_setzero_si256(), lo = hi;
#pragma GCC unroll 8
    for (int s = 0; s < 8; ++s) {
      int four_hi, four_lo;
      __builtin_memcpy(&four_hi, planes + 4 * s, 4);
      __builtin_memcpy(&four_lo, planes + 32 + 4 * s, 4);
      hi = _mm256_add_epi16(hi, _mm256_maddubs_epi16(codes[s], _mm256_set1_epi32(four_hi)));
      lo = _mm256_add_epi16(lo, _mm256_maddubs_epi16(codes[s], _mm256_set1_epi32(four_lo)));
    }
    return _mm256_add_epi32(_mm256_madd_epi16(hi, _mm256_set1_epi16(256)),
                            _mm256_madd_epi16(lo, _mm256_set1_epi16(1)));
  }

  template <int N>
  static void sums_w4(const uint8_t* codes, const Activations& x, size_t at, __m256i (&sums)[N]) {
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i steps[8];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const __m256i bytes = _mm256_loadu_si256(as_vector(codes + 64 * v));
      steps[v] = _mm256_and_si256(bytes, nibble);
      steps[v + 4] = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble);
    }
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i) {
      sums[i] = sum_w4(steps, x.planes + (at + size_t(i) * x.n_blocks) * 64);
    }
  }

  // Rows 0-3 and 4-7 of a step, 4 columns each as 16 bits; pairs meet in `sums_w8`.
  template <int N, int Steps>
  static void sums_w8(const uint8_t* codes, const int16_t* x, size_t x_step, __m256i (&sums)[N]) {
    __m256i a[N], b[N];
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i) a[i] = b[i] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int s = 0; s < Steps; ++s) {
      const auto* halves = reinterpret_cast<const __m128i*>(codes + 64 * s);
      const __m256i first = _mm256_cvtepu8_epi16(_mm_loadu_si128(halves));
      const __m256i second = _mm256_cvtepu8_epi16(_mm_loadu_si128(halves + 1));
#pragma GCC unroll 4
      for (int i = 0; i < N; ++i) {
        long long four;
        __builtin_memcpy(&four, x + i * x_step + 4 * s, 8);
        const __m256i in = _mm256_set1_epi64x(four);
        a[i] = _mm256_add_epi32(a[i], _mm256_madd_epi16(first, in));
        b[i] = _mm256_add_epi32(b[i], _mm256_madd_epi16(second, in));
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < N; ++i) {
      sums[i] = _mm256_permute4x64_epi64(_mm256_hadd_epi32(a[i], b[i]), 0xd8);
    }
  }

  template <PackedForm Form, int N>
  static void half_group(Walk::Block<Form> block, const Activations& x, uint32_t m, uint32_t half,
                         __m256 (&acc)[N]) {
    constexpr uint32_t kInBlock = 32 / Walk::Block<Form>::kCols;
    for (uint32_t b = 0; b < block.n_blocks; ++b, block.next()) {
      if (half == 0) block.fetch_ahead();
      const size_t at = size_t{m} * x.n_blocks + b / kInBlock;
      const uint32_t part = Walk::part_of<Form>(b);
      const uint8_t* codes = block.codes + 32 * half;
      __m256i sums[N];
      if constexpr (Form == PackedForm::w4) {
        sums_w4<N>(codes, x, at, sums);
      } else {
        const int16_t* in = x.wide + at * 32 + b % kInBlock * 16;
        sums_w8<N, Walk::Block<Form>::kCols / 4>(codes, in, size_t{x.n_blocks} * 32, sums);
      }
      const __m256 d = load_halves(block.scales + 8 * half);
      const __m256 min = block.has_min == 1 ? load_halves(block.scales + 16 + 8 * half) : d;
#pragma GCC unroll 4
      for (int i = 0; i < N; ++i) {
        const BlockFacts& facts = x.facts[at + size_t(i) * x.n_blocks];
        if (Form != PackedForm::w4) {
          sums[i] = _mm256_add_epi32(sums[i], _mm256_set1_epi32(facts.zeros[part]));
        }
        const __m256 sum = _mm256_mul_ps(_mm256_set1_ps(facts.scale), _mm256_cvtepi32_ps(sums[i]));
        acc[i] = _mm256_fmadd_ps(d, sum, acc[i]);
        if (block.has_min == 1) {
          acc[i] = _mm256_fmadd_ps(min, _mm256_set1_ps(facts.sums[part]), acc[i]);
        }
      }
    }
  }

  template <PackedForm Form, int N>
  static void group(const Weight& w, const Activations& x, uint32_t m, uint32_t g, float* y) {
    for (uint32_t half = 0; half < 2 && g * 16 + half * 8 < w.n_rows; ++half) {
      const uint32_t row = g * 16 + half * 8;
      __m256 acc[N];
      for (__m256& lanes : acc) lanes = _mm256_setzero_ps();
      half_group<Form, N>(Walk::Block<Form>(w, g), x, m, half, acc);
      for (int i = 0; i < N; ++i) {
        float* out = y + size_t{m + i} * w.n_rows + row;
        _mm256_maskstore_ps(out, rows_there(w.n_rows, row), acc[i]);
      }
    }
  }
};

}  // namespace

void quantise_avx2(const Activations& x, uint32_t begin, uint32_t end) {
  for (uint32_t m = begin; m < end; ++m) {
    for (uint32_t b = 0; b < x.n_blocks; ++b) {
      const size_t at = size_t{m} * x.n_blocks + b;
      const float* from = x.x + size_t{m} * x.n_cols + size_t{b} * 32;
      float room[32] = {};
      if (b * 32 + 32 > x.n_cols) {
        __builtin_memcpy(room, from, (x.n_cols - b * 32) * sizeof(float));
        from = room;
      }
      quantise_block(from, x.planes + at * 64, x.wide + at * 32, x.facts + at);
    }
  }
}

void matmul_avx2(const Weight& w, const Activations& x, uint32_t row_begin, uint32_t row_end,
                 float* y, float* scratch) {
  if (w.type == WeightType::w4 || w.type == WeightType::w8) {
    return PackedWalk<Avx2>::matmul(w, x, row_begin, row_end, y);
  }
  matmul_plain_avx2(w, x, row_begin, row_end, y, scratch);
}

}  // namespace polykv
