// Attention of a split with AVX-512 (F, BW, DQ, VL): as attend_avx2.cpp, twice as wide. Full tiles
// of codes are looked up here; short tiles and plain rows come from avx2_tiles.cpp.
#include <immintrin.h>

#include "reader/split_walk.h"

namespace polykv {
namespace {

using avx2::kScoreStride;
using avx2::kTileLd;

// A code of `bits` is packed as one or two fields of 1, 2, 4 or 8 bits (docs/format.md).
constexpr int low_width(int bits) { return bits == 3 ? 2 : bits == 5 || bits == 6 ? 4 : bits; }

// 64 codes of a full tile that lie in one run of its fields, one a byte.
template <int Bits>
struct Run {
  static constexpr int kLow = low_width(Bits);
  static constexpr int kHigh = Bits - kLow;
  const uint8_t* low;
  const uint8_t* high = nullptr;
  __m128i by_low;
  __m128i by_high{};

  Run(const uint8_t* tile, uint32_t n_codes, uint32_t first) {
    const uint32_t low_bytes = n_codes * kLow / 8;
    low = tile + first % low_bytes;
    by_low = _mm_cvtsi32_si128(static_cast<int>(first / low_bytes * kLow));
    if constexpr (kHigh > 0) {
      const uint32_t high_bytes = n_codes * kHigh / 8;
      high = tile + low_bytes + first % high_bytes;
      by_high = _mm_cvtsi32_si128(static_cast<int>(first / high_bytes * kHigh));
    }
  }
  static __m512i shifted(const uint8_t* from, __m128i by, int width) {
    const auto mask = static_cast<char>((1 << width) - 1);
    return _mm512_and_si512(_mm512_srl_epi16(_mm512_loadu_si512(from), by), _mm512_set1_epi8(mask));
  }
  __m512i at(uint32_t i) const {
    const __m512i codes = shifted(low + i, by_low, kLow);
    if constexpr (kHigh == 0) return codes;
    const __m512i upper = shifted(high + i, by_high, kHigh);
    return _mm512_or_si512(codes, _mm512_slli_epi16(upper, kLow));
  }
};

// A code book in registers; shorter ones are repeated up to 16 points.
template <int Bits>
struct Book {
  static constexpr int kParts = Bits == 8 ? 0 : Bits <= 4 ? 1 : (1 << Bits) / 16;
  __m512 part[kParts + 1];

  Book() {
    const float* points = avx2::book_of(Bits);
    float repeated[16];
    for (int i = 0; i < 16; ++i) repeated[i] = points[i & ((1 << Bits) - 1)];
    part[0] = _mm512_loadu_ps(repeated);
    for (int i = 1; i < kParts; ++i) part[i] = _mm512_loadu_ps(points + 16 * i);
  }
  // Points of the bytes at bit 8 * J of each 32-bit lane.
  template <int J>
  __m512 look_up(__m512i codes) const {
    const __m512i index = _mm512_srli_epi32(codes, 8 * J);  // permutations look at low bits only
    if constexpr (Bits == 8) {
      const __m512i code = _mm512_and_si512(index, _mm512_set1_epi32(255));
      return _mm512_sub_ps(_mm512_cvtepi32_ps(code), _mm512_set1_ps(128.0f));
    } else if constexpr (Bits <= 4) {
      return _mm512_permutexvar_ps(index, part[0]);
    } else if constexpr (Bits == 5) {
      return _mm512_permutex2var_ps(part[0], index, part[1]);
    } else {
      const __m512 low = _mm512_permutex2var_ps(part[0], index, part[1]);
      const __m512 high = _mm512_permutex2var_ps(part[2], index, part[3]);
      return _mm512_mask_blend_ps(_mm512_test_epi32_mask(index, _mm512_set1_epi32(32)), low, high);
    }
  }
};

// Groups [begin, end) of a full tile, each over `lanes` lanes, of which [lane_begin, lane_end) are
// wanted: out[(4 * g + j) * ld + i] = the point of code (g * lanes + i) * 4 + j, 16 lanes at a
// time.
struct Part {
  uint32_t begin, end, lane_begin, lane_end, lanes;
};

template <int Bits>
void expand(const uint8_t* tile, uint32_t n_codes, const Part& part, float* out, uint32_t ld) {
  const Book<Bits> book;
  for (uint32_t g = part.begin; g < part.end; ++g) {
    const Run<Bits> run(tile, n_codes, g * part.lanes * 4);
    float* row = out + 4 * g * ld;
    for (uint32_t i = part.lane_begin; i < part.lane_end; i += 16) {
      const __m512i codes = run.at(4 * i);
      _mm512_storeu_ps(row + i, book.template look_up<0>(codes));
      _mm512_storeu_ps(row + ld + i, book.template look_up<1>(codes));
      _mm512_storeu_ps(row + 2 * ld + i, book.template look_up<2>(codes));
      _mm512_storeu_ps(row + 3 * ld + i, book.template look_up<3>(codes));
    }
  }
}

void expand_bits(int bits, const uint8_t* tile, uint32_t n_codes, const Part& part, float* out,
                 uint32_t ld) {
  switch (bits) {
    case 2:
      return expand<2>(tile, n_codes, part, out, ld);
    case 3:
      return expand<3>(tile, n_codes, part, out, ld);
    case 4:
      return expand<4>(tile, n_codes, part, out, ld);
    case 5:
      return expand<5>(tile, n_codes, part, out, ld);
    case 6:
      return expand<6>(tile, n_codes, part, out, ld);
    default:
      return expand<8>(tile, n_codes, part, out, ld);
  }
}

// Keeps g++ 12 from loading the operand again for every query.
void keep(__m512& operand) { asm("" : "+v"(operand)); }

struct Avx512 {
  static constexpr uint32_t kStep = 64;

  template <int N>
  static void score_tokens(const float* tile, const float* scale, uint32_t dim, const float* q,
                           const float* bias, float* scores) {
    __m512 sum[N][4];
    for (auto& row : sum) {
      for (__m512& lanes : row) lanes = _mm512_setzero_ps();
    }
    for (uint32_t d = 0; d < dim; ++d, tile += kTileLd) {
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        __m512 k = _mm512_loadu_ps(tile + 16 * v);
        keep(k);
#pragma GCC unroll 3
        for (int i = 0; i < N; ++i) {
          sum[i][v] = _mm512_fmadd_ps(_mm512_set1_ps(q[i * dim + d]), k, sum[i][v]);
        }
      }
    }
    for (int i = 0; i < N; ++i) {
      const __m512 add = _mm512_set1_ps(bias == nullptr ? 0.0f : bias[i]);
      for (int v = 0; v < 4; ++v) {
        const __m512 score = _mm512_fmadd_ps(sum[i][v], _mm512_loadu_ps(scale + 16 * v), add);
        _mm512_storeu_ps(scores + i * kScoreStride + 16 * v, score);
      }
    }
  }

  template <int N>
  static void add_tokens(const float* v, uint32_t dim, const float* weights, uint32_t n,
                         float* acc) {
    __m512 sum[N][4];
    for (auto& row : sum) {
      for (__m512& lanes : row) lanes = _mm512_setzero_ps();
    }
    for (uint32_t t = 0; t < n; ++t, v += dim) {
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        __m512 value = _mm512_loadu_ps(v + 16 * j);
        keep(value);
#pragma GCC unroll 3
        for (int i = 0; i < N; ++i) {
          const __m512 weight = _mm512_set1_ps(weights[i * kScoreStride + t]);
          sum[i][j] = _mm512_fmadd_ps(weight, value, sum[i][j]);
        }
      }
    }
    for (int i = 0; i < N; ++i) {
      for (int j = 0; j < 4; ++j) {
        float* out = acc + i * dim + 16 * j;
        _mm512_storeu_ps(out, _mm512_add_ps(_mm512_loadu_ps(out), sum[i][j]));
      }
    }
  }

  static void load_keys(const PlaneView& plane, const avx2::Block& block, uint8_t* codes,
                        float* tile) {
    const uint32_t dim = plane.shape.head_dim;
    if (!block.coded || block.rows != kTileRows) return avx2::load_keys(plane, block, codes, tile);
    const Part part{0, dim / 4, (block.begin - block.first) / 16 * 16, block.end - block.first,
                    kTileRows};
    expand_bits(code_bits(plane.shape.codec), avx2::tile_of(plane, block), kTileRows * dim, part,
                tile, kTileLd);
  }

  static const float* load_values(const PlaneView& plane, const avx2::Block& block, uint8_t* codes,
                                  float* tile) {
    const uint32_t dim = plane.shape.head_dim;
    if (!block.coded || block.rows != kTileRows) {
      return avx2::load_values(plane, block, codes, tile);
    }
    const uint32_t skip = block.begin - block.first;
    const Part part{skip / 4, (block.end - block.first + 3) / 4, 0, dim, dim};
    expand_bits(code_bits(plane.shape.codec), avx2::tile_of(plane, block), kTileRows * dim, part,
                tile, dim);
    return tile + skip * dim;
  }
};

}  // namespace

void attend_split_avx512(const SplitCall& call) { SplitWalk<Avx512>::attend(call); }

}  // namespace polykv
