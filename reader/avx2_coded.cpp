// Tiles of codes with AVX2: points as 16 bits, queries of 16 bits, weights of 15 with a step for
// each tile and query; products of four neighbours at a time. (Sums of byte products would not fit
// 16 bits.) As in attend_avx2.cpp, nothing from the standard library is instantiated here.
#include "reader/avx2_coded.h"

#include <immintrin.h>

#include "reader/split_walk.h"

namespace polykv::avx2 {
namespace {

const __m256i* as_vector(const void* p) { return static_cast<const __m256i*>(p); }

// A code of `bits` is packed as one or two fields of 1, 2, 4 or 8 bits (docs/format.md).
constexpr int low_width(int bits) { return bits == 3 ? 2 : bits == 5 || bits == 6 ? 4 : bits; }

// Points of codes, one in the low bits of each byte; what lies above is ignored.
template <int Bits>
class LookUp {
 public:
  LookUp() {
    if constexpr (Bits < 8) {
      for (int i = 0; i < 4; ++i) {
        const auto* sixteen = reinterpret_cast<const __m128i*>(byte_book(Bits).points + 16 * i);
        part_[i] = _mm256_broadcastsi128_si256(_mm_loadu_si128(sixteen));
      }
    }
  }
  __m256i points(__m256i codes) const {
    if constexpr (Bits == 8) return _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
    constexpr auto kMask = static_cast<char>(Bits <= 4 ? 15 : (1 << Bits) - 1);
    const __m256i index = _mm256_and_si256(codes, _mm256_set1_epi8(kMask));
    __m256i found = _mm256_shuffle_epi8(part_[0], index);
    if constexpr (Bits >= 5) {
      const __m256i odd = _mm256_slli_epi16(index, 3);  // bit 4 decides
      found = _mm256_blendv_epi8(found, _mm256_shuffle_epi8(part_[1], index), odd);
      if constexpr (Bits == 6) {
        const __m256i upper = _mm256_blendv_epi8(_mm256_shuffle_epi8(part_[2], index),
                                                 _mm256_shuffle_epi8(part_[3], index), odd);
        found = _mm256_blendv_epi8(found, upper, _mm256_slli_epi16(index, 2));
      }
    }
    return found;
  }

 private:
  __m256i part_[4];
};

void store_wide(__m256i bytes, int16_t* out) {
  auto* to = reinterpret_cast<__m256i*>(out);
  _mm256_storeu_si256(to, _mm256_cvtepi8_epi16(_mm256_castsi256_si128(bytes)));
  _mm256_storeu_si256(to + 1, _mm256_cvtepi8_epi16(_mm256_extracti128_si256(bytes, 1)));
}

// Points of one run of the narrower field of a full tile, and of the runs after it.
template <int Bits, int Run>
void decode_runs(const uint8_t* tile, uint32_t n_codes, const LookUp<Bits>& book, int16_t* out) {
  constexpr int kLow = low_width(Bits), kHigh = Bits - kLow;
  constexpr int kWidth = kHigh > 0 ? kHigh : kLow;
  constexpr int kShiftLow = Run * kWidth / kLow * kLow, kShiftHigh = Run * kWidth;
  const uint32_t bytes = n_codes * kWidth / 8, low_bytes = n_codes * kLow / 8;
  const uint8_t* low = tile + Run * bytes % low_bytes;
  for (uint32_t i = 0; i < bytes; i += 32) {
    __m256i codes = _mm256_srli_epi16(_mm256_loadu_si256(as_vector(low + i)), kShiftLow);
    if constexpr (kHigh > 0) {
      const __m256i field = _mm256_loadu_si256(as_vector(tile + low_bytes + i));
      const __m256i upper = _mm256_slli_epi16(_mm256_srli_epi16(field, kShiftHigh), kLow);
      const __m256i is_low = _mm256_set1_epi8((1 << kLow) - 1);
      codes = _mm256_or_si256(_mm256_and_si256(is_low, codes), _mm256_andnot_si256(is_low, upper));
    }
    store_wide(book.points(codes), out + Run * bytes + i);
  }
  if constexpr ((Run + 1) * kWidth < 8) decode_runs<Bits, Run + 1>(tile, n_codes, book, out);
}

template <int Bits>
void decode(const PlaneView& plane, const Block& block, const SplitScratch& scratch) {
  const LookUp<Bits> book;
  auto* out = reinterpret_cast<int16_t*>(scratch.tile);
  const uint8_t* tile = tile_of(plane, block);
  const uint32_t dim = plane.shape.head_dim;
  if (block.rows == kTileRows) return decode_runs<Bits, 0>(tile, kTileRows * dim, book, out);
  const uint32_t rows = plane.shape.kind == PlaneKind::v ? (block.rows + 3) / 4 * 4 : block.rows;
  unpack(tile, Bits, rows * dim, scratch.codes);
  for (uint32_t i = 0; i < rows * dim; i += 32) {
    store_wide(book.points(_mm256_loadu_si256(as_vector(scratch.codes + i))), out + i);
  }
}

// Points of a block's tile in the order of the codes.
const int16_t* points(const PlaneView& plane, const Block& block, const SplitScratch& scratch) {
  switch (code_bits(plane.shape.codec)) {
    case 2:
      decode<2>(plane, block, scratch);
      break;
    case 3:
      decode<3>(plane, block, scratch);
      break;
    case 4:
      decode<4>(plane, block, scratch);
      break;
    case 5:
      decode<5>(plane, block, scratch);
      break;
    case 6:
      decode<6>(plane, block, scratch);
      break;
    default:
      decode<8>(plane, block, scratch);
  }
  return reinterpret_cast<const int16_t*>(scratch.tile);
}

float point_step(const PlaneView& plane) {
  const int bits = code_bits(plane.shape.codec);
  return bits == 8 ? 1.0f : byte_book(bits).step;
}

float largest_of(const float* x, uint32_t n) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  __m256 top = _mm256_setzero_ps();
  for (uint32_t i = 0; i < n; i += 8) {
    top = _mm256_max_ps(top, _mm256_and_ps(_mm256_loadu_ps(x + i), magnitude));
  }
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(top), _mm256_extractf128_ps(top, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

// Numbers as integers up to 32767, with their step. n: a multiple of 16.
void quantise(const float* x, uint32_t n, int16_t* out, float* step) {
  const float largest = largest_of(x, n);
  const bool there = largest > 1e-30f;
  *step = there ? largest / 32767.0f : 0.0f;
  const __m256 inverse = _mm256_set1_ps(there ? 32767.0f / largest : 0.0f);
  for (uint32_t i = 0; i < n; i += 16) {
    const __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), inverse));
    const __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i + 8), inverse));
    const __m256i both = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), both);
  }
}

// Sums over groups [begin, end) of four products, for N rows of x and 16 lanes from `tile` on.
// x: four numbers a group, x_stride apart. sum[i]: lanes 0-7 and 8-15.
template <int N>
void dot_groups(const int16_t* tile, uint32_t lanes, uint32_t begin, uint32_t end, const int16_t* x,
                uint32_t x_stride, __m256i (&sum)[N][2]) {
  __m256i pairs[N][4];
#pragma GCC unroll 12
  for (int i = 0; i < N * 4; ++i) pairs[i / 4][i % 4] = _mm256_setzero_si256();
  for (uint32_t g = begin; g < end; ++g) {
    const int16_t* row = tile + size_t{g} * lanes * 4;
    __m256i a[N];
#pragma GCC unroll 3
    for (int i = 0; i < N; ++i) {
      long long four;
      __builtin_memcpy(&four, x + size_t(i) * x_stride + 4 * g, sizeof four);
      a[i] = _mm256_set1_epi64x(four);
    }
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const __m256i point = _mm256_loadu_si256(as_vector(row + 16 * v));
#pragma GCC unroll 3
      for (int i = 0; i < N; ++i) {
        pairs[i][v] = _mm256_add_epi32(pairs[i][v], _mm256_madd_epi16(point, a[i]));
      }
    }
  }
#pragma GCC unroll 3
  for (int i = 0; i < N; ++i) {
    sum[i][0] = _mm256_permute4x64_epi64(_mm256_hadd_epi32(pairs[i][0], pairs[i][1]), 0xd8);
    sum[i][1] = _mm256_permute4x64_epi64(_mm256_hadd_epi32(pairs[i][2], pairs[i][3]), 0xd8);
  }
}

struct Batches {};
using Walk = SplitWalk<Batches>;

}  // namespace

void prepare_queries(const SplitCall& call, const SplitScratch& scratch) {
  if (!is_rotated(call.k->shape.codec)) return;
  const uint32_t dim = call.k->shape.head_dim;
  for (uint32_t query = 0; query < call.n_queries; ++query) {
    quantise(call.q_rotated + size_t{query} * dim, dim,
             reinterpret_cast<int16_t*>(scratch.q) + size_t{query} * dim, scratch.q_step + query);
  }
}

void score_tile(const SplitCall& call, const SplitScratch& scratch, const Block& block) {
  const PlaneView& k = *call.k;
  const uint32_t dim = k.shape.head_dim;
  alignas(64) float scale[kTileRows];
  write_scales(k, block, scale);
  const int16_t* tile = points(k, block, scratch);
  const auto* q = reinterpret_cast<const int16_t*>(scratch.q);
  float* scores = scratch.scores + (kTileRows + block.first - call.row_begin);
  const float step = point_step(k);
  for (uint32_t lane = 0; lane < block.rows; lane += 16) {
    Walk::in_batches<3>(call.n_queries, [&](uint32_t query, auto batch) {
      constexpr int kN = decltype(batch)::kQueries;
      __m256i sum[kN][2];
      dot_groups<kN>(tile + lane * 4, block.rows, 0, dim / 4, q + size_t{query} * dim, dim, sum);
#pragma GCC unroll 3
      for (int i = 0; i < kN; ++i) {
        const __m256 by = _mm256_set1_ps(scratch.q_step[query + i] * step);
        const __m256 mean = _mm256_set1_ps(call.q_mean[query + i]);
        float* out = scores + size_t{query + i} * kScoreStride + lane;
        for (int v = 0; v < 2; ++v) {
          const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sum[i][v]), by);
          const __m256 factor = _mm256_loadu_ps(scale + lane + 8 * v);
          _mm256_storeu_ps(out + 8 * v, _mm256_fmadd_ps(scaled, factor, mean));
        }
      }
    });
  }
}

void add_tile(const SplitCall& call, const SplitScratch& scratch, const Block& block) {
  const PlaneView& v = *call.v;
  const uint32_t dim = v.shape.head_dim;
  const uint32_t begin = block.begin - block.first, end = block.end - block.first;
  alignas(64) float scale[kTileRows];
  write_scales(v, block, scale);
  const int16_t* tile = points(v, block, scratch);
  auto* weights = reinterpret_cast<int16_t*>(scratch.weights);
  const float step = point_step(v);
  for (uint32_t query = 0; query < call.n_queries; ++query) {
    alignas(64) float p[kTileRows] = {};
    const float* mine =
        scratch.scores + (kTileRows + block.first - call.row_begin) + size_t{query} * kScoreStride;
    __builtin_memcpy(p + begin, mine + begin, (end - begin) * sizeof(float));
    multiply(p, scale, kTileRows);
    quantise(p, kTileRows, weights + size_t{query} * kTileRows, scratch.p_step + query);
  }
  for (uint32_t d = 0; d < dim; d += 16) {
    Walk::in_batches<3>(call.n_queries, [&](uint32_t query, auto batch) {
      constexpr int kN = decltype(batch)::kQueries;
      __m256i sum[kN][2];
      dot_groups<kN>(tile + size_t{d} * 4, dim, begin / 4, (end + 3) / 4,
                     weights + size_t{query} * kTileRows, kTileRows, sum);
#pragma GCC unroll 3
      for (int i = 0; i < kN; ++i) {
        const __m256 by = _mm256_set1_ps(scratch.p_step[query + i] * step);
        float* out = call.acc_rotated + size_t{query + i} * dim + d;
        for (int half = 0; half < 2; ++half, out += 8) {
          const __m256 add = _mm256_cvtepi32_ps(sum[i][half]);
          _mm256_storeu_ps(out, _mm256_fmadd_ps(add, by, _mm256_loadu_ps(out)));
        }
      }
    });
  }
}

}  // namespace polykv::avx2
