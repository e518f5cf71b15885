// Layout, packing and reference decoding of planes. Encoding: plane_encode.cpp.
#include "ipc/plane.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "ipc/half.h"

namespace polykv {
namespace {

constexpr uint64_t kSectionAlign = 64;
constexpr std::array kPaperPoints = {-2.152f, -1.344f, -0.756f, -0.245f,
                                     0.245f,  0.756f,  1.344f,  2.152f};

uint64_t align_up(uint64_t bytes) {
  return (bytes + kSectionAlign - 1) / kSectionAlign * kSectionAlign;
}

// A code of `bits` is stored as one or two fields of 1, 2, 4 or 8 bits; the first holds its low
// bits.
struct Fields {
  int low;
  int high;
};

Fields fields_of(int bits) {
  switch (bits) {
    case 3:
      return {2, 1};
    case 5:
      return {4, 1};
    case 6:
      return {4, 2};
    default:
      return {bits, 0};
  }
}

// V is coded in groups of 4 tokens.
uint32_t padded_rows(PlaneKind kind, uint32_t rows) {
  return kind == PlaneKind::v ? (rows + 3) / 4 * 4 : rows;
}

// Byte i of a field's `bytes` bytes holds codes i + k * bytes at bits k * width.
void unpack_field(const std::byte* field, int width, uint32_t n_codes, int shift, uint8_t* out) {
  const uint32_t bytes = n_codes * width / 8;
  const auto mask = static_cast<uint8_t>((1 << width) - 1);
  for (int k = 0; k < 8 / width; ++k, out += bytes) {
    for (uint32_t i = 0; i < bytes; ++i) {
      const int code = (std::to_integer<int>(field[i]) >> (k * width)) & mask;
      out[i] = static_cast<uint8_t>(out[i] | (code << shift));
    }
  }
}

void pack_field(const uint8_t* codes, int width, uint32_t n_codes, int shift, std::byte* field) {
  const uint32_t bytes = n_codes * width / 8;
  const int mask = (1 << width) - 1;
  for (uint32_t i = 0; i < bytes; ++i) {
    int packed = 0;
    for (int k = 0; k < 8 / width; ++k) {
      packed |= ((codes[i + k * bytes] >> shift) & mask) << (k * width);
    }
    field[i] = static_cast<std::byte>(packed);
  }
}

uint32_t field_at(const std::byte* field, int width, uint32_t n_codes, uint32_t index) {
  const uint32_t bytes = n_codes * width / 8;
  const auto shift = static_cast<int>(index / bytes) * width;
  return (std::to_integer<uint32_t>(field[index % bytes]) >> shift) & ((1u << width) - 1);
}

// One code of a tile without unpacking the others.
uint32_t code_at(const std::byte* tile, int bits, uint32_t n_codes, uint32_t index) {
  const Fields fields = fields_of(bits);
  uint32_t code = field_at(tile, fields.low, n_codes, index);
  if (fields.high > 0) {
    const std::byte* high = tile + n_codes * fields.low / 8;
    code |= field_at(high, fields.high, n_codes, index) << fields.low;
  }
  return code;
}

uint64_t coded_bytes(const PlaneShape& shape, uint32_t coded) {
  const int bits = code_bits(shape.codec);
  const uint64_t full = coded / kTileRows;
  return full * tile_bytes(shape.kind, bits, kTileRows, shape.head_dim) +
         tile_bytes(shape.kind, bits, coded % kTileRows, shape.head_dim);
}

PlaneLayout rotated_layout(const PlaneShape& shape) {
  const uint64_t coded = coded_rows(shape);
  PlaneLayout layout;
  layout.sinks = align_up(shape.head_dim * sizeof(float));
  layout.scales =
      layout.sinks + align_up((shape.n_rows - coded) * shape.head_dim * sizeof(uint16_t));
  layout.codes = layout.scales + align_up(coded);
  layout.bytes = layout.codes + coded_bytes(shape, static_cast<uint32_t>(coded));
  return layout;
}

float rotated_points(const PlaneView& plane, uint32_t coded, float* out) {
  const PlaneShape& shape = plane.shape;
  const int bits = code_bits(shape.codec);
  const uint32_t first = coded / kTileRows * kTileRows;
  const uint32_t rows = std::min(kTileRows, coded_rows(shape) - first);
  const uint32_t n_codes = padded_rows(shape.kind, rows) * shape.head_dim;
  const std::byte* tile =
      plane.codes + first / kTileRows * tile_bytes(shape.kind, bits, kTileRows, shape.head_dim);
  const auto book = code_book(bits);
  for (uint32_t d = 0; d < shape.head_dim; ++d) {
    const uint32_t index = code_index(shape.kind, rows, shape.head_dim, coded - first, d);
    out[d] = book[code_at(tile, bits, n_codes, index)];
  }
  return row_scale(plane, coded);
}

void half_row(const uint16_t* row, uint32_t head_dim, float* out) {
  for (uint32_t d = 0; d < head_dim; ++d) out[d] = half_to_float(row[d]);
}

float paper_k_points(const PlaneView& plane, uint32_t row, float* out) {
  const uint32_t dim = plane.shape.head_dim;
  const std::byte* codes = plane.codes + uint64_t{row} * dim;
  for (uint32_t d = 0; d < dim; ++d) {
    out[d] = static_cast<float>(static_cast<int8_t>(std::to_integer<uint8_t>(codes[d])));
  }
  return plane.scale_max;
}

float paper_v_points(const PlaneView& plane, uint32_t row, float* out) {
  const uint32_t dim = plane.shape.head_dim;
  const std::byte* codes = plane.codes + uint64_t{row} * dim;
  for (uint32_t d = 0; d < dim; ++d) out[d] = kPaperPoints[std::to_integer<size_t>(codes[d]) & 7];
  return plane.norms[row] / std::sqrt(static_cast<float>(dim));
}

}  // namespace

uint32_t coded_rows(const PlaneShape& shape) {
  if (!is_rotated(shape.codec)) return 0;
  return shape.n_rows - std::min(shape.n_sinks, shape.n_rows);
}

PlaneLayout plane_layout(const PlaneShape& shape) {
  if (is_rotated(shape.codec)) return rotated_layout(shape);
  const uint64_t elements = uint64_t{shape.n_rows} * shape.head_dim;
  PlaneLayout layout;
  switch (shape.codec) {
    case PlaneCodec::f32:
      layout.bytes = elements * sizeof(float);
      break;
    case PlaneCodec::f16:
      layout.bytes = elements * sizeof(uint16_t);
      break;
    case PlaneCodec::paper_v3:
      layout.codes = align_up(shape.n_rows * sizeof(float));
      layout.bytes = layout.codes + elements;
      break;
    default:
      layout.bytes = elements;
  }
  return layout;
}

PlaneView plane_view(const PlaneShape& shape, float scale_max, const std::byte* plane) {
  const PlaneLayout layout = plane_layout(shape);
  PlaneView view;
  view.shape = shape;
  view.shape.n_sinks = is_rotated(shape.codec) ? std::min(shape.n_sinks, shape.n_rows) : 0;
  view.scale_max = scale_max;
  view.codes = plane + layout.codes;
  if (is_rotated(shape.codec)) {
    view.mean = reinterpret_cast<const float*>(plane + layout.mean);
    view.sinks = reinterpret_cast<const uint16_t*>(plane + layout.sinks);
    view.scales = reinterpret_cast<const uint8_t*>(plane + layout.scales);
  } else if (shape.codec == PlaneCodec::paper_v3) {
    view.norms = reinterpret_cast<const float*>(plane);
  }
  return view;
}

uint32_t code_index(PlaneKind kind, uint32_t rows, uint32_t head_dim, uint32_t t, uint32_t d) {
  if (kind == PlaneKind::v) return ((t / 4) * head_dim + d) * 4 + t % 4;
  return ((d / 4) * rows + t) * 4 + d % 4;
}

uint64_t tile_bytes(PlaneKind kind, int bits, uint32_t rows, uint32_t head_dim) {
  return uint64_t{padded_rows(kind, rows)} * head_dim * bits / 8;
}

void unpack_tile(const std::byte* tile, int bits, uint32_t n_codes, uint8_t* out) {
  const Fields fields = fields_of(bits);
  std::memset(out, 0, n_codes);
  unpack_field(tile, fields.low, n_codes, 0, out);
  if (fields.high == 0) return;
  unpack_field(tile + n_codes * fields.low / 8, fields.high, n_codes, fields.low, out);
}

void pack_tile(const uint8_t* codes, int bits, uint32_t n_codes, std::byte* tile) {
  const Fields fields = fields_of(bits);
  pack_field(codes, fields.low, n_codes, 0, tile);
  if (fields.high == 0) return;
  pack_field(codes, fields.high, n_codes, fields.low, tile + n_codes * fields.low / 8);
}

std::span<const float> paper_points() { return kPaperPoints; }

bool is_row_rotated(const PlaneView& plane, uint32_t row) {
  if (plane.shape.codec == PlaneCodec::paper_v3) return true;
  return is_rotated(plane.shape.codec) && row >= plane.shape.n_sinks;
}

float row_points(const PlaneView& plane, uint32_t row, float* out) {
  const PlaneShape& shape = plane.shape;
  const uint64_t first = uint64_t{row} * shape.head_dim;
  if (is_row_rotated(plane, row) && shape.codec != PlaneCodec::paper_v3) {
    return rotated_points(plane, row - shape.n_sinks, out);
  }
  switch (shape.codec) {
    case PlaneCodec::paper_k8:
      return paper_k_points(plane, row, out);
    case PlaneCodec::paper_v3:
      return paper_v_points(plane, row, out);
    case PlaneCodec::f32:
      std::memcpy(out, plane.codes + first * sizeof(float), shape.head_dim * sizeof(float));
      return 1.0f;
    case PlaneCodec::f16:
      half_row(reinterpret_cast<const uint16_t*>(plane.codes) + first, shape.head_dim, out);
      return 1.0f;
    default:
      half_row(plane.sinks + first, shape.head_dim, out);
      return 1.0f;
  }
}

void rotate_back(PlaneCodec codec, uint32_t head_dim, float* x) {
  hadamard(x, head_dim);
  if (!is_rotated(codec)) return;
  const auto signs = sign_vector(head_dim);
  for (uint32_t d = 0; d < head_dim; ++d) x[d] *= signs[d];
}

void decode_row(const PlaneView& plane, uint32_t row, float* out) {
  const PlaneShape& shape = plane.shape;
  const float scale = row_points(plane, row, out);
  for (uint32_t d = 0; d < shape.head_dim; ++d) out[d] *= scale;
  if (!is_row_rotated(plane, row)) return;
  rotate_back(shape.codec, shape.head_dim, out);
  if (!is_rotated(shape.codec)) return;
  for (uint32_t d = 0; d < shape.head_dim; ++d) out[d] += plane.mean[d];
}

}  // namespace polykv
