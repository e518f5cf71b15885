// Attention to tiles of codes with AVX-512 and VNNI, in integers: points of codes as bytes, queries
// and weights quantised, 4-byte dot products. LookUp turns codes into points; it differs between
// CPUs, and keeps what is instantiated here apart (reader/split_walk.h).
//
//   scores  u8 points of K (128 too high, taken back by q_start) times s8 queries: one plane of
//           8 bits, or two (16 bits) where K itself is that exact
//   values  u8 weights, a step for each tile and query, times s8 points of V
#pragma once

#include <immintrin.h>

#include "reader/split_walk.h"

namespace polykv {

template <class LookUp>
struct Avx512Tiles {
  using Scratch = avx2::SplitScratch;
  using Block = avx2::Block;
  static constexpr int kPlanesFrom = 6;  // bits of K from which queries take two planes

  // A code of `bits` is packed as one or two fields of 1, 2, 4 or 8 bits (docs/format.md).
  static constexpr int low_width(int bits) {
    return bits == 3 ? 2 : bits == 5 || bits == 6 ? 4 : bits;
  }

  // Points of one run of the narrower field of a full tile, and of the runs after it.
  template <int Bits, int Run>
  static void decode_runs(const uint8_t* tile, uint32_t n_codes, const LookUp& book, uint8_t* out) {
    constexpr int kLow = low_width(Bits), kHigh = Bits - kLow;
    constexpr int kWidth = kHigh > 0 ? kHigh : kLow;
    constexpr int kShiftLow = Run * kWidth / kLow * kLow, kShiftHigh = Run * kWidth;
    const uint32_t bytes = n_codes * kWidth / 8, low_bytes = n_codes * kLow / 8;
    const uint8_t* low = tile + Run * bytes % low_bytes;
    for (uint32_t i = 0; i < bytes; i += 64) {
      __m512i codes = _mm512_srli_epi16(_mm512_loadu_si512(low + i), kShiftLow);
      if constexpr (kHigh > 0) {
        __m512i upper = _mm512_loadu_si512(tile + low_bytes + i);
        upper = _mm512_slli_epi16(_mm512_srli_epi16(upper, kShiftHigh), kLow);
        const __m512i is_low = _mm512_set1_epi8((1 << kLow) - 1);
        codes = _mm512_ternarylogic_epi32(is_low, codes, upper, 0xca);  // is_low ? codes : upper
      }
      _mm512_storeu_si512(out + Run * bytes + i, book.template points<Bits>(codes));
    }
    if constexpr ((Run + 1) * kWidth < 8) decode_runs<Bits, Run + 1>(tile, n_codes, book, out);
  }

  template <int Bits>
  static void decode(const PlaneView& plane, const Block& block, bool is_signed,
                     const Scratch& scratch, uint8_t* out) {
    const LookUp book(Bits, is_signed);
    const uint8_t* tile = avx2::tile_of(plane, block);
    const uint32_t dim = plane.shape.head_dim;
    if (block.rows == kTileRows) return decode_runs<Bits, 0>(tile, kTileRows * dim, book, out);
    const uint32_t rows = plane.shape.kind == PlaneKind::v ? (block.rows + 3) / 4 * 4 : block.rows;
    avx2::unpack(tile, Bits, rows * dim, scratch.codes);
    for (uint32_t i = 0; i < rows * dim; i += 64) {
      const __m512i codes = _mm512_loadu_si512(scratch.codes + i);
      _mm512_storeu_si512(out + i, book.template points<Bits>(codes));
    }
  }

  // Points of a block's tile, one a byte, in the order of the codes.
  static const uint8_t* points(const PlaneView& plane, const Block& block, bool is_signed,
                               const Scratch& scratch) {
    auto* out = reinterpret_cast<uint8_t*>(scratch.tile);
    switch (code_bits(plane.shape.codec)) {
      case 2:
        decode<2>(plane, block, is_signed, scratch, out);
        break;
      case 3:
        decode<3>(plane, block, is_signed, scratch, out);
        break;
      case 4:
        decode<4>(plane, block, is_signed, scratch, out);
        break;
      case 5:
        decode<5>(plane, block, is_signed, scratch, out);
        break;
      case 6:
        decode<6>(plane, block, is_signed, scratch, out);
        break;
      default:
        if (!is_signed && block.rows == kTileRows) return avx2::tile_of(plane, block);
        decode<8>(plane, block, is_signed, scratch, out);
    }
    return out;
  }

  static float point_step(const PlaneView& plane) {
    const int bits = code_bits(plane.shape.codec);
    return bits == 8 ? 1.0f : avx2::byte_book(bits).step;
  }

  static __mmask64 first_tokens(uint32_t n) { return n >= 64 ? ~0ull : (1ull << n) - 1; }

  // Scales of a tile's tokens times `by`; 0 past its end.
  static void load_scales(const PlaneView& plane, const Block& block, float by,
                          __m512 (&scale)[4]) {
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
  static void quantise_query(const float* q, uint32_t dim, bool wide, int8_t* out, float* step,
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

  static void prepare(const SplitCall& call, const Scratch& scratch) {
    if (!is_rotated(call.k->shape.codec)) return;
    const uint32_t dim = call.k->shape.head_dim;
    const bool wide = code_bits(call.k->shape.codec) >= kPlanesFrom;
    for (uint32_t query = 0; query < call.n_queries; ++query) {
      quantise_query(call.q_rotated + size_t{query} * dim, dim, wide,
                     scratch.q + size_t{query} * 2 * dim, scratch.q_step + query,
                     scratch.q_start + query);
    }
  }

  static __m512i four_bytes(const int8_t* p) {
    int four;
    __builtin_memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
  }

  // Sums for N queries and 64 tokens. `stride`: bytes from one group of 4 dimensions to the next.
  template <int N, int Planes>
  static void dot_keys(const uint8_t* points, uint32_t stride, uint32_t dim, const int8_t* q,
                       const int32_t* start, __m512i (&sum)[N][4]) {
    __m512i high[N][4];
#pragma GCC unroll 6
    for (int i = 0; i < N; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        sum[i][v] = _mm512_set1_epi32(start[i]);
        high[i][v] = _mm512_setzero_si512();
      }
    }
    for (uint32_t d = 0; d < dim; d += 4, points += stride) {
      __m512i k[4];
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) k[v] = _mm512_loadu_si512(points + 64 * v);
#pragma GCC unroll 6
      for (int i = 0; i < N; ++i) {
        const int8_t* mine = q + size_t(i) * 2 * dim + d;
        const __m512i hi = four_bytes(mine);
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) {
          if constexpr (Planes == 2) {
            high[i][v] = _mm512_dpbusd_epi32(high[i][v], k[v], hi);
          } else {
            sum[i][v] = _mm512_dpbusd_epi32(sum[i][v], k[v], hi);
          }
        }
        if constexpr (Planes == 2) {
          const __m512i lo = four_bytes(mine + dim);
#pragma GCC unroll 4
          for (int v = 0; v < 4; ++v) sum[i][v] = _mm512_dpbusd_epi32(sum[i][v], k[v], lo);
        }
      }
    }
    if constexpr (Planes == 2) {
#pragma GCC unroll 6
      for (int i = 0; i < N; ++i) {
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) {
          sum[i][v] = _mm512_add_epi32(sum[i][v], _mm512_slli_epi32(high[i][v], 8));
        }
      }
    }
  }

  template <int Planes>
  static void score_with(const SplitCall& call, const Scratch& scratch, const Block& block) {
    const PlaneView& k = *call.k;
    const uint32_t dim = k.shape.head_dim;
    const uint8_t* tile = points(k, block, false, scratch);
    __m512 scale[4];
    load_scales(k, block, point_step(k), scale);
    float* scores = scratch.scores + (kTileRows + block.first - call.row_begin);
    using Walk = SplitWalk<LookUp>;
    Walk::template in_batches<Planes == 2 ? 3 : 6>(call.n_queries, [&](uint32_t query, auto batch) {
      constexpr int kN = decltype(batch)::kQueries;
      __m512i sum[kN][4];
      dot_keys<kN, Planes>(tile, block.rows * 4, dim, scratch.q + size_t{query} * 2 * dim,
                           scratch.q_start + query, sum);
#pragma GCC unroll 6
      for (int i = 0; i < kN; ++i) {
        const __m512 step = _mm512_set1_ps(scratch.q_step[query + i]);
        const __m512 mean = _mm512_set1_ps(call.q_mean[query + i]);
        float* out = scores + size_t{query + i} * avx2::kScoreStride;
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) {
          const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[i][v]), step);
          _mm512_storeu_ps(out + 16 * v, _mm512_fmadd_ps(scaled, scale[v], mean));
        }
      }
    });
  }

  static void score_tile(const SplitCall& call, const Scratch& scratch, const Block& block) {
    const bool wide = code_bits(call.k->shape.codec) >= kPlanesFrom;
    wide ? score_with<2>(call, scratch, block) : score_with<1>(call, scratch, block);
  }

  // A tile's weights of one query as bytes; 0 outside the block.
  static void quantise_weights(const float* weights, const __m512 (&scale)[4], __mmask64 inside,
                               int8_t* out, float* step) {
    __m512 p[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const auto mask = static_cast<__mmask16>(inside >> (16 * v));
      p[v] = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, weights + 16 * v), scale[v]);
    }
    const __m512 top = _mm512_max_ps(_mm512_max_ps(p[0], p[1]), _mm512_max_ps(p[2], p[3]));
    const float largest = _mm512_reduce_max_ps(top);
    const bool there = largest > 1e-30f;
    *step = there ? largest / 255.0f : 0.0f;
    const __m512 inverse = _mm512_set1_ps(there ? 255.0f / largest : 0.0f);
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(p[v], inverse));
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 16 * v), _mm512_cvtusepi32_epi8(q));
    }
  }

  // Adds tokens 4 * [begin, end) of 64 dimensions to N accumulators.
  template <int N>
  static void add_dims(const uint8_t* points, uint32_t dim, uint32_t begin, uint32_t end,
                       const int8_t* weights, const float* step, float* acc) {
    __m512i sum[N][4];
#pragma GCC unroll 6
    for (int i = 0; i < N; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) sum[i][v] = _mm512_setzero_si512();
    }
    for (uint32_t t = begin; t < end; ++t) {
      __m512i values[4];
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        values[v] = _mm512_loadu_si512(points + size_t{t} * dim * 4 + 64 * v);
      }
#pragma GCC unroll 6
      for (int i = 0; i < N; ++i) {
        const __m512i p = four_bytes(weights + i * 2 * int{kTileRows} + 4 * t);
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) sum[i][v] = _mm512_dpbusd_epi32(sum[i][v], p, values[v]);
      }
    }
#pragma GCC unroll 6
    for (int i = 0; i < N; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        float* out = acc + size_t(i) * dim + 16 * v;
        const __m512 add = _mm512_cvtepi32_ps(sum[i][v]);
        _mm512_storeu_ps(out, _mm512_fmadd_ps(add, _mm512_set1_ps(step[i]), _mm512_loadu_ps(out)));
      }
    }
  }

  static void add_tile(const SplitCall& call, const Scratch& scratch, const Block& block) {
    const PlaneView& v = *call.v;
    const uint32_t dim = v.shape.head_dim;
    const uint32_t begin = block.begin - block.first, end = block.end - block.first;
    const uint8_t* tile = points(v, block, true, scratch);
    __m512 scale[4];
    load_scales(v, block, point_step(v), scale);
    const float* weights = scratch.scores + (kTileRows + block.first - call.row_begin);
    const __mmask64 inside = first_tokens(end) & ~first_tokens(begin);
    for (uint32_t query = 0; query < call.n_queries; ++query) {
      quantise_weights(weights + size_t{query} * avx2::kScoreStride, scale, inside,
                       scratch.weights + size_t{query} * 2 * kTileRows, scratch.p_step + query);
    }
    using Walk = SplitWalk<LookUp>;
    for (uint32_t d = 0; d < dim; d += 64) {
      Walk::template in_batches<6>(call.n_queries, [&](uint32_t query, auto batch) {
        add_dims<decltype(batch)::kQueries>(tile + size_t{d} * 4, dim, begin / 4, (end + 3) / 4,
                                            scratch.weights + size_t{query} * 2 * kTileRows,
                                            scratch.p_step + query,
                                            call.acc_rotated + size_t{query} * dim + d);
      });
    }
  }
};

}  // namespace polykv
