// Tiles of bfloat16 by AMX, the rest by AVX-512. As in kernels_avx2.cpp, nothing from elsewhere is
// instantiated here.
#include <immintrin.h>

#include "ipc/amx.h"
#include "model/prefill_tiles.h"

namespace polykv::tiles {
namespace {

// Four tiles of sums, 16 rows by 16 outputs each; two of rows; two of weights.
enum Tile { sum_00, sum_01, sum_10, sum_11, rows_0, rows_1, weights_0, weights_1 };

template <Tile Sum, Tile Rows, Tile Weights>
inline void multiply_tiles() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sum), "i"(Rows), "i"(Weights));
}

// Pairs of bfloat16, a's in the low halves: the nearest (half-way goes away from zero), and to
// `rest` what they leave.
inline void store_pair(__m512 a, __m512 b, uint16_t* out, uint16_t* rest) {
  const __m512i half = _mm512_set1_epi32(0x8000), kept = _mm512_set1_epi32(-0x10000);
  const __m512i low = _mm512_add_epi32(_mm512_castps_si512(a), half);
  const __m512i high = _mm512_add_epi32(_mm512_castps_si512(b), half);
  _mm512_store_si512(out, _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(low, 16), high));
  const __m512 left_a = _mm512_sub_ps(a, _mm512_castsi512_ps(_mm512_and_si512(low, kept)));
  const __m512 left_b = _mm512_sub_ps(b, _mm512_castsi512_ps(_mm512_and_si512(high, kept)));
  const __m512i cut = _mm512_srli_epi32(_mm512_castps_si512(left_a), 16);
  _mm512_store_si512(rest, _mm512_mask_blend_epi16(0xaaaaaaaa, cut, _mm512_castps_si512(left_b)));
}

inline __m512 load_halves(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

// A code as the upper bits of a float's fraction: kBase + code / 2, without a conversion.
template <int Bits>
struct CodeFloat {
  static constexpr int kPlace = Bits == 4 ? 19 : 15;                 // of a code's lowest bit
  static constexpr int kBits = Bits == 4 ? 0x41000000 : 0x43000000;  // of kBase
  static constexpr float kBase = Bits == 4 ? 8 : 128;
  static constexpr float kZero = Bits == 4 ? 0 : 128;  // the code that means 0

  template <int From>
  static __m512 at(__m512i codes) {
    if constexpr (From < kPlace) {
      codes = _mm512_slli_epi32(codes, kPlace - From);
    } else {
      codes = _mm512_srli_epi32(codes, From - kPlace);
    }
    const __m512i mask = _mm512_set1_epi32(((1 << Bits) - 1) << kPlace);
    return _mm512_castsi512_ps(
        _mm512_ternarylogic_epi32(codes, mask, _mm512_set1_epi32(kBits), 0xea));  // and, or
  }
};

// One block of a group: weight = factor * CodeFloat + offset.
template <int Bits>
struct Block {
  using Code = CodeFloat<Bits>;
  __m512 factor, offset;

  Block(const uint16_t* scales, bool has_min) {
    const __m512 d = load_halves(scales);
    const __m512 min = has_min ? load_halves(scales + 16) : _mm512_setzero_ps();
    factor = _mm512_add_ps(d, d);
    offset = _mm512_fnmadd_ps(d, _mm512_set1_ps(2 * Code::kBase + Code::kZero), min);
  }
  template <int From>
  __m512 column(__m512i codes) const {
    return _mm512_fmadd_ps(factor, Code::template at<From>(codes), offset);
  }
  // The four columns whose codes begin at bit `From` of each lane's bytes.
  template <int From>
  void four(__m512i codes, uint16_t* out) const {
    uint16_t* rest = out + 2 * kTile;
    store_pair(column<From>(codes), column<From + 8>(codes), out, rest);
    store_pair(column<From + 16>(codes), column<From + 24>(codes), out + 32, rest + 32);
  }
};

// codes: [256 bytes].
inline void unpack_w4(const uint8_t* codes, const Block<4>& block, uint16_t* out) {
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    const __m512i both = _mm512_loadu_si512(codes + 64 * v);
    block.four<0>(both, out + 64 * v);
    block.four<4>(both, out + 64 * v + 256);
  }
}

// codes: [16 * cols bytes].
inline void unpack_w8(const uint8_t* codes, uint32_t cols, const Block<8>& block, uint16_t* out) {
  for (uint32_t v = 0; v < cols / 4; ++v) {
    block.four<0>(_mm512_loadu_si512(codes + 64 * v), out + 64 * v);
  }
}

inline void clear(uint16_t* out, uint32_t n) {
  for (uint32_t i = 0; i < n; i += 32) _mm512_store_si512(out + i, _mm512_setzero_si512());
}

// e^x to 2e-6: 2^n times a polynomial on |r| <= ln(2) / 2. Too large gives infinity, too small 0.
inline __m512 exponential(__m512 x) {
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 8);
  const __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693147181f), x);
  __m512 y = _mm512_set1_ps(1.0f / 120);
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 24));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f / 6));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0.5f));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(y, n);
}

// What a sigmoid is taken of: x, or with GELU 2 * sqrt(2 / pi) * (x + 0.044715 x^3).
inline __m512 slope(__m512 x, bool gelu) {
  if (!gelu) return x;
  const __m512 square = _mm512_mul_ps(x, x);
  const __m512 inner =
      _mm512_fmadd_ps(square, _mm512_set1_ps(0.0713548162f), _mm512_set1_ps(1.59576912f));
  return _mm512_mul_ps(x, inner);
}

// Division to 2^-14: bfloat16 keeps 2^-9.
inline __m512 gated(__m512 x, __m512 up, bool gelu) {
  const __m512 one = _mm512_set1_ps(1.0f);
  // Below -87 it would be gate * 0, which an infinity makes NaN.
  const __m512 lowest = _mm512_max_ps(_mm512_set1_ps(-87.0f), slope(x, gelu));
  const __m512 below = exponential(_mm512_sub_ps(_mm512_setzero_ps(), lowest));
  return _mm512_mul_ps(_mm512_mul_ps(x, up), _mm512_rcp14_ps(_mm512_add_ps(one, below)));
}

template <uint32_t Parts>
void multiply_parts(const Product& p) {
  const size_t row_bytes = p.stride * sizeof *p.x, sum_bytes = 32 * sizeof *p.sums;
  for (uint32_t r = 0; r < p.n; r += kSide) {
    const uint16_t* upper = p.x + r * p.stride;
    const uint16_t* lower = upper + 16 * p.stride;
    float* sums = p.sums + size_t{r} * 32;
    if (p.adds) {
      amx::load_tile<sum_00>(sums, sum_bytes), amx::load_tile<sum_01>(sums + 16, sum_bytes);
      amx::load_tile<sum_10>(sums + 512, sum_bytes), amx::load_tile<sum_11>(sums + 528, sum_bytes);
    } else {
      amx::clear_tile<sum_00>(), amx::clear_tile<sum_01>();
      amx::clear_tile<sum_10>(), amx::clear_tile<sum_11>();
    }
    const uint16_t* weights = p.strip;
    for (uint32_t step = 0; step < p.n_steps; ++step) {
      amx::load_tile<rows_0>(upper + step * kSide, row_bytes);
      amx::load_tile<rows_1>(lower + step * kSide, row_bytes);
#pragma GCC unroll 2
      for (uint32_t part = 0; part < Parts; ++part, weights += 2 * kTile) {
        amx::load_tile<weights_0>(weights, 64);
        multiply_tiles<sum_00, rows_0, weights_0>();
        multiply_tiles<sum_10, rows_1, weights_0>();
        amx::load_tile<weights_1>(weights + kTile, 64);
        multiply_tiles<sum_01, rows_0, weights_1>();
        multiply_tiles<sum_11, rows_1, weights_1>();
      }
    }
    amx::store_tile<sum_00>(sums, sum_bytes), amx::store_tile<sum_01>(sums + 16, sum_bytes);
    amx::store_tile<sum_10>(sums + 512, sum_bytes), amx::store_tile<sum_11>(sums + 528, sum_bytes);
  }
}

}  // namespace

void round_rows(const float* x, uint32_t n, uint32_t n_cols, uint16_t* out) {
  const size_t stride = row_stride(n_cols);
  for (uint32_t r = 0; r < whole_steps(n); ++r, out += stride) {
    if (r >= n) {
      clear(out, whole_steps(n_cols));
      continue;
    }
    for (uint32_t c = 0; c < whole_steps(n_cols); c += 16) {
      const uint32_t left = n_cols > c ? n_cols - c : 0;
      const auto there = static_cast<__mmask16>(left < 16 ? (1u << left) - 1 : 0xffff);
      const __m512 from = _mm512_maskz_loadu_ps(there, x + size_t{r} * n_cols + c);
      _mm256_store_si256(reinterpret_cast<__m256i*>(out + c),
                         reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(from)));
    }
  }
}

void unpack(const Weight& w, uint32_t group, uint32_t begin, uint32_t end, uint16_t* out) {
  const bool w4 = w.type == WeightType::w4;
  const uint32_t block_bytes = w.block * (w4 ? 8 : 16), block_scales = 16 * (1 + w.has_min);
  const size_t first = (size_t{group} * w.n_cols + begin) / w.block;
  const auto* codes = reinterpret_cast<const uint8_t*>(w.values) + first * block_bytes;
  const uint16_t* scales = w.scales + first * block_scales;
  for (uint32_t c = begin; c < end; c += w.block) {
    uint16_t* to = out + (c - begin) / kSide * kWeightStep + (c - begin) % kSide * 16;
    if (w4) {
      unpack_w4(codes, Block<4>(scales, w.has_min == 1), to);
    } else {
      unpack_w8(codes, w.block, Block<8>(scales, w.has_min == 1), to);
    }
    if (w.block < kSide && c + w.block == end && end % kSide != 0) {
      clear(to + 256, 256), clear(to + 256 + 2 * kTile, 256);
    }
    codes += block_bytes;
    scales += block_scales;
  }
}

void multiply(const Product& p) {
  if (p.parts == 1) return multiply_parts<1>(p);
  multiply_parts<2>(p);
}

void store_outputs(const float* sums, uint32_t n, uint32_t n_outputs, float* y, size_t stride) {
  const uint32_t all = n_outputs < 32 ? (1u << n_outputs) - 1 : 0xffffffff;
  for (uint32_t i = 0; i < n; ++i, sums += 32, y += stride) {
    _mm512_mask_storeu_ps(y, static_cast<__mmask16>(all), _mm512_load_ps(sums));
    _mm512_mask_storeu_ps(y + 16, static_cast<__mmask16>(all >> 16), _mm512_load_ps(sums + 16));
  }
}

void store_gated(const float* sums, uint32_t n, bool gelu, uint16_t* out, size_t stride) {
  for (uint32_t i = 0; i < n; ++i, sums += 32, out += stride) {
    const __m512 made = gated(_mm512_load_ps(sums), _mm512_load_ps(sums + 16), gelu);
    _mm256_store_si256(reinterpret_cast<__m256i*>(out),
                       reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(made)));
  }
}

}  // namespace polykv::tiles
