// Blocks of a plane, unpacking of short tiles, and transposition of plain rows, with AVX2.
// As in attend_avx2.cpp, nothing from the standard library is instantiated here.
#include "reader/avx2_tiles.h"

#include <immintrin.h>

namespace polykv::avx2 {
namespace {

uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

// A code of `bits` is packed as one or two fields of 1, 2, 4 or 8 bits (docs/format.md).
constexpr int low_width(int bits) { return bits == 3 ? 2 : bits == 5 || bits == 6 ? 4 : bits; }

// One run of a field: out[i] (|)= ((field[i] >> right) & mask) << left for i in [0, bytes).
// bytes: a multiple of 8, so that nothing past the field is read.
template <bool Add>
void unpack_run(const uint8_t* field, uint32_t bytes, int right, int width, int left,
                uint8_t* out) {
  const int mask = (1 << width) - 1;
  const __m256i keep = _mm256_set1_epi8(static_cast<char>(mask));
  const __m128i by_right = _mm_cvtsi32_si128(right);
  const __m128i by_left = _mm_cvtsi32_si128(left);
  uint32_t i = 0;
  for (; i + 32 <= bytes; i += 32) {
    const auto* from = reinterpret_cast<const __m256i*>(field + i);
    auto* to = reinterpret_cast<__m256i*>(out + i);
    __m256i codes = _mm256_srl_epi16(_mm256_loadu_si256(from), by_right);
    codes = _mm256_sll_epi16(_mm256_and_si256(codes, keep), by_left);
    if (Add) codes = _mm256_or_si256(codes, _mm256_loadu_si256(to));
    _mm256_storeu_si256(to, codes);
  }
  for (; i < bytes; ++i) {
    const int code = ((field[i] >> right) & mask) << left;
    out[i] = static_cast<uint8_t>(Add ? out[i] | code : code);
  }
}

template <bool Add>
void unpack_field(const uint8_t* field, uint32_t n_codes, int width, int left, uint8_t* out) {
  const uint32_t bytes = n_codes * static_cast<uint32_t>(width) / 8;
  for (int right = 0; right < 8; right += width, out += bytes) {
    unpack_run<Add>(field, bytes, right, width, left, out);
  }
}

}  // namespace

void unpack(const uint8_t* tile, int bits, uint32_t n_codes, uint8_t* codes) {
  const int low = low_width(bits);
  unpack_field<false>(tile, n_codes, low, 0, codes);
  if (low < bits) {
    const uint8_t* high = tile + n_codes * static_cast<uint32_t>(low) / 8;
    unpack_field<true>(high, n_codes, bits - low, low, codes);
  }
}

const uint8_t* tile_of(const PlaneView& plane, const Block& block) {
  const PlaneShape& shape = plane.shape;
  const uint64_t full = uint64_t{kTileRows} * shape.head_dim * code_bits(shape.codec) / 8;
  const uint64_t index = (block.first - shape.n_sinks) / kTileRows;
  return reinterpret_cast<const uint8_t*>(plane.codes) + index * full;
}

namespace {

// Rows of plain numbers: what lies where.
enum class RowType { f32, f16, s8, paper3 };
struct Rows {
  const uint8_t* first;  // row block.begin
  uint64_t stride;       // bytes
};

RowType row_type(const PlaneView& plane) {
  switch (plane.shape.codec) {
    case PlaneCodec::f32:
      return RowType::f32;
    case PlaneCodec::paper_k8:
      return RowType::s8;
    case PlaneCodec::paper_v3:
      return RowType::paper3;
    default:
      return RowType::f16;  // f16 planes and sinks
  }
}

Rows rows_of(const PlaneView& plane, const Block& block) {
  const Stored rows = stored_rows(plane, block.begin);
  return {rows.first, uint64_t{rows.bytes} * plane.shape.head_dim};
}

template <RowType Type>
__m256 load_eight(const uint8_t* row, uint32_t d) {
  if constexpr (Type == RowType::f32) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(row) + d);
  } else if constexpr (Type == RowType::f16) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + 2 * d)));
  } else {
    const __m128i codes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + d));
    if constexpr (Type == RowType::s8) return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes));
    const __m256 book = _mm256_loadu_ps(paper_book());
    return _mm256_permutevar8x32_ps(book, _mm256_cvtepu8_epi32(codes));
  }
}

void transpose(__m256 (&x)[8]) {
  __m256 a[8];
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_ps(x[i], x[i + 1]);
    a[i + 1] = _mm256_unpackhi_ps(x[i], x[i + 1]);
  }
  __m256 b[8];
  for (int i = 0; i < 8; i += 4) {
    b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
    b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
    b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
    b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    x[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
    x[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
  }
}

// tile[d, t] = row t's number d, for t in [0, n); 0 up to the next multiple of 8.
template <RowType Type>
void transpose_rows(const Rows& rows, uint32_t n, uint32_t dim, float* tile) {
  for (uint32_t t = 0; t < n; t += 8) {
    for (uint32_t d = 0; d < dim; d += 8) {
      __m256 x[8];
      for (uint32_t i = 0; i < 8; ++i) {
        x[i] = t + i < n ? load_eight<Type>(rows.first + (t + i) * rows.stride, d)
                         : _mm256_setzero_ps();
      }
      transpose(x);
      for (uint32_t i = 0; i < 8; ++i) _mm256_storeu_ps(tile + (d + i) * kTileLd + t, x[i]);
    }
  }
}

template <RowType Type>
void convert_rows(const Rows& rows, uint32_t n, uint32_t dim, float* tile) {
  for (uint32_t t = 0; t < n; ++t) {
    for (uint32_t d = 0; d < dim; d += 8) {
      _mm256_storeu_ps(tile + t * dim + d, load_eight<Type>(rows.first + t * rows.stride, d));
    }
  }
}

float constant_scale(const PlaneView& plane) {
  return plane.shape.codec == PlaneCodec::paper_k8 ? plane.scale_max : 1.0f;
}

}  // namespace

Block block_at(const PlaneView& plane, uint32_t row, uint32_t row_end) {
  const bool rotated = is_rotated(plane.shape.codec);
  const uint32_t n_sinks = plane.shape.n_sinks;
  if (rotated && row >= n_sinks) {
    const uint32_t first = n_sinks + (row - n_sinks) / kTileRows * kTileRows;
    const uint32_t rows = smaller(kTileRows, plane.shape.n_rows - first);
    return {first, rows, row, smaller(row_end, first + rows), true};
  }
  const uint32_t last = rotated ? smaller(row_end, n_sinks) : row_end;
  const uint32_t rows = smaller(kTileRows, last - row);
  return {row, rows, row, row + rows, false};
}

const uint8_t* tile_at(const PlaneView& plane, uint32_t row, uint32_t end) {
  if (!is_rotated(plane.shape.codec) || row < plane.shape.n_sinks || row >= end) return nullptr;
  return tile_of(plane, block_at(plane, row, row + 1));
}

// Past the plane's end, behind a short tile, it does nothing.
void prefetch_tile(const PlaneView& plane, const uint8_t* tile) {
  if (tile == nullptr) return;
  const uint32_t bytes = kTileRows * plane.shape.head_dim * code_bits(plane.shape.codec) / 8;
  for (uint32_t at = 0; at < bytes; at += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(tile + at), _MM_HINT_T0);
  }
}

bool write_scales(const PlaneView& plane, const Block& block, float* scale) {
  const PlaneShape& shape = plane.shape;
  const float same = constant_scale(plane);
  for (uint32_t t = block.rows; t < kTileRows; ++t) scale[t] = 0;
  for (uint32_t t = 0; t < block.rows; ++t) scale[t] = same;
  if (block.coded) {
    const uint8_t* scales = plane.scales + (block.first - shape.n_sinks);
    const float step = plane.scale_max / 255.0f;
    for (uint32_t t = 0; t < block.rows; ++t) scale[t] = static_cast<float>(scales[t]) * step;
  } else if (shape.codec == PlaneCodec::paper_v3) {
    const float spread = _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(static_cast<float>(shape.head_dim))));
    for (uint32_t t = 0; t < block.rows; ++t) scale[t] = plane.norms[block.first + t] / spread;
  }
  return block.coded || shape.codec == PlaneCodec::paper_v3 || same != 1.0f;
}

void load_keys(const PlaneView& plane, const Block& block, float* tile) {
  const uint32_t dim = plane.shape.head_dim;
  const Rows rows = rows_of(plane, block);
  switch (row_type(plane)) {
    case RowType::f32:
      return transpose_rows<RowType::f32>(rows, block.rows, dim, tile);
    case RowType::f16:
      return transpose_rows<RowType::f16>(rows, block.rows, dim, tile);
    case RowType::s8:
      return transpose_rows<RowType::s8>(rows, block.rows, dim, tile);
    case RowType::paper3:
      return transpose_rows<RowType::paper3>(rows, block.rows, dim, tile);
  }
}

Stored stored_rows(const PlaneView& plane, uint32_t row) {
  const RowType type = row_type(plane);
  const uint32_t bytes = type == RowType::f32 ? 4 : type == RowType::f16 ? 2 : 1;
  const auto* first = is_rotated(plane.shape.codec) ? reinterpret_cast<const uint8_t*>(plane.sinks)
                                                    : reinterpret_cast<const uint8_t*>(plane.codes);
  return {first + uint64_t{row} * bytes * plane.shape.head_dim, bytes};
}

const float* load_values(const PlaneView& plane, const Block& block, float* tile) {
  const uint32_t dim = plane.shape.head_dim;
  const Rows rows = rows_of(plane, block);
  switch (row_type(plane)) {
    case RowType::f32:
      return reinterpret_cast<const float*>(rows.first);
    case RowType::f16:
      convert_rows<RowType::f16>(rows, block.rows, dim, tile);
      break;
    case RowType::s8:
      convert_rows<RowType::s8>(rows, block.rows, dim, tile);
      break;
    case RowType::paper3:
      convert_rows<RowType::paper3>(rows, block.rows, dim, tile);
      break;
  }
  return tile;
}

}  // namespace polykv::avx2
