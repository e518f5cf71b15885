// Encoding of K and V rows into planes. Every sum has a fixed order: the same rows give the same
// bytes.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "ipc/half.h"
#include "ipc/plane.h"

namespace polykv {
namespace {

constexpr float kLargest = 1e30f;
constexpr uint32_t kDimMax = 256;

// The rows of one head within [n_rows, n_heads, head_dim].
struct HeadRows {
  const float* first;
  uint64_t stride;
  const float* operator[](uint32_t row) const { return first + row * stride; }
};

float tamed(float x) { return x != x ? 0.0f : std::clamp(x, -kLargest, kLargest); }

// Where the parts of a rotated plane are written.
struct RotatedPlane {
  PlaneShape shape;
  float* mean;
  uint16_t* sinks;
  uint8_t* scales;
  std::byte* codes;
  uint32_t n_sinks;
  uint32_t n_coded;
};

RotatedPlane rotated_plane(const PlaneShape& shape, std::byte* plane) {
  const PlaneLayout layout = plane_layout(shape);
  const uint32_t coded = coded_rows(shape);
  return {shape,
          reinterpret_cast<float*>(plane + layout.mean),
          reinterpret_cast<uint16_t*>(plane + layout.sinks),
          reinterpret_cast<uint8_t*>(plane + layout.scales),
          plane + layout.codes,
          shape.n_rows - coded,
          coded};
}

void write_mean(const RotatedPlane& plane, const HeadRows& rows) {
  const uint32_t dim = plane.shape.head_dim;
  std::array<double, kDimMax> sum{};
  for (uint32_t row = plane.n_sinks; row < plane.shape.n_rows; ++row) {
    for (uint32_t d = 0; d < dim; ++d) sum[d] += tamed(rows[row][d]);
  }
  const double count = std::max(plane.n_coded, 1u);
  for (uint32_t d = 0; d < dim; ++d) plane.mean[d] = static_cast<float>(sum[d] / count);
}

void write_sinks(const RotatedPlane& plane, const HeadRows& rows) {
  const uint32_t dim = plane.shape.head_dim;
  for (uint32_t row = 0; row < plane.n_sinks; ++row) {
    for (uint32_t d = 0; d < dim; ++d) {
      plane.sinks[row * dim + d] = float_to_half(tamed(rows[row][d]));
    }
  }
}

// w = H(signs * (row - mean)).
void rotate_row(const float* row, const float* mean, uint32_t dim, float* w) {
  const auto signs = sign_vector(dim);
  for (uint32_t d = 0; d < dim; ++d) w[d] = (tamed(row[d]) - mean[d]) * signs[d];
  hadamard(w, dim);
}

double dot(const float* a, const float* b, uint32_t n) {
  double sum = 0;
  for (uint32_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

// Borders between the cells of neighbouring points.
std::vector<float> midpoints(std::span<const float> book) {
  std::vector<float> borders;
  for (size_t i = 1; i < book.size(); ++i) borders.push_back((book[i - 1] + book[i]) / 2);
  return borders;
}

// Nearest point of each w[i] * factor: as many borders as lie below it. Blocks of 16 for the
// compiler.
void nearest_codes(const float* w, float factor, std::span<const float> borders, uint32_t n,
                   uint8_t* codes) {
  for (uint32_t first = 0; first < n; first += 16) {
    std::array<float, 16> z;
    std::array<int32_t, 16> code{};
    for (size_t i = 0; i < 16; ++i) z[i] = w[first + i] * factor;
    for (const float border : borders) {
      for (size_t i = 0; i < 16; ++i) code[i] += z[i] > border ? 1 : 0;
    }
    for (size_t i = 0; i < 16; ++i) codes[first + i] = static_cast<uint8_t>(code[i]);
  }
}

// Codes of one row by the nearest points; returns the unbiased scale |w|^2 / <w, q>.
float nearest_row(const float* w, std::span<const float> book, std::span<const float> borders,
                  uint32_t dim, uint8_t* codes) {
  const double energy = dot(w, w, dim);
  const double sigma = std::sqrt(energy / dim);
  if (sigma < 1e-30) return 0.0f;  // codes stay 0: the row is the mean
  nearest_codes(w, static_cast<float>(1.0 / sigma), borders, dim, codes);
  std::array<float, kDimMax> points;
  for (uint32_t d = 0; d < dim; ++d) points[d] = book[codes[d]];
  return static_cast<float>(energy / dot(w, points.data(), dim));
}

float largest(const float* x, uint32_t n) {
  float top = 0;
  for (uint32_t i = 0; i < n; ++i) top = std::max(top, std::abs(x[i]));
  return top;
}

// scales[i] = wanted[i] in 255ths of the maximum, which is returned. up: never below the wanted
// scale.
float write_scales(const std::vector<float>& wanted, bool up, uint8_t* scales) {
  float top = 0;
  for (const float scale : wanted) top = std::max(top, scale);
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (top <= 0) continue;
    const double steps = static_cast<double>(wanted[i]) / top * 255.0;
    scales[i] = static_cast<uint8_t>(up ? std::min(std::ceil(steps), 255.0) : std::round(steps));
  }
  return top;
}

void uniform_codes(const float* w, float scale, uint32_t dim, uint8_t* codes) {
  const float factor = scale > 0 ? 1.0f / scale : 0.0f;
  for (uint32_t d = 0; d < dim; ++d) {
    const float code = std::clamp(std::nearbyint(w[d] * factor), -127.0f, 127.0f);
    codes[d] = static_cast<uint8_t>(static_cast<int>(code) + 128);
  }
}

// Brings the codes of one tile, [rows, head_dim], into code_index order and packs them.
void write_tile(const PlaneShape& shape, const uint8_t* codes, uint32_t rows, std::byte* tile) {
  const uint32_t dim = shape.head_dim;
  const uint32_t padded = shape.kind == PlaneKind::v ? (rows + 3) / 4 * 4 : rows;
  std::array<uint8_t, kTileRows * kDimMax> ordered{};
  for (uint32_t t = 0; t < rows; ++t) {
    for (uint32_t d = 0; d < dim; ++d) {
      ordered[code_index(shape.kind, rows, dim, t, d)] = codes[t * dim + d];
    }
  }
  pack_tile(ordered.data(), code_bits(shape.codec), padded * dim, tile);
}

void write_tiles(const RotatedPlane& plane, const std::vector<uint8_t>& codes) {
  const PlaneShape& shape = plane.shape;
  const uint64_t full = tile_bytes(shape.kind, code_bits(shape.codec), kTileRows, shape.head_dim);
  for (uint32_t first = 0; first < plane.n_coded; first += kTileRows) {
    const uint32_t rows = std::min(kTileRows, plane.n_coded - first);
    write_tile(shape, codes.data() + uint64_t{first} * shape.head_dim, rows,
               plane.codes + first / kTileRows * full);
  }
}

float encode_nearest(const RotatedPlane& plane, const HeadRows& rows, std::vector<uint8_t>& codes) {
  const uint32_t dim = plane.shape.head_dim;
  const auto book = code_book(code_bits(plane.shape.codec));
  const std::vector<float> borders = midpoints(book);
  std::vector<float> scales(plane.n_coded);
  std::array<float, kDimMax> w;
  for (uint32_t i = 0; i < plane.n_coded; ++i) {
    rotate_row(rows[plane.n_sinks + i], plane.mean, dim, w.data());
    scales[i] = nearest_row(w.data(), book, borders, dim, codes.data() + uint64_t{i} * dim);
  }
  return write_scales(scales, false, plane.scales);
}

// The step is rounded up to a 255th of the largest, so that no code has to be clipped.
float encode_uniform(const RotatedPlane& plane, const HeadRows& rows, std::vector<uint8_t>& codes) {
  const uint32_t dim = plane.shape.head_dim;
  std::vector<float> w(codes.size());
  std::vector<float> scales(plane.n_coded);
  for (uint32_t i = 0; i < plane.n_coded; ++i) {
    float* row = w.data() + uint64_t{i} * dim;
    rotate_row(rows[plane.n_sinks + i], plane.mean, dim, row);
    scales[i] = largest(row, dim) / 127.0f;
  }
  const float top = write_scales(scales, true, plane.scales);
  for (uint32_t i = 0; i < plane.n_coded; ++i) {
    const float scale = static_cast<float>(plane.scales[i]) * (top / 255.0f);
    const uint64_t first = uint64_t{i} * dim;
    uniform_codes(w.data() + first, scale, dim, codes.data() + first);
  }
  return top;
}

float encode_rotated(const PlaneShape& shape, const HeadRows& rows, std::byte* bytes) {
  const RotatedPlane plane = rotated_plane(shape, bytes);
  write_mean(plane, rows);
  write_sinks(plane, rows);
  std::vector<uint8_t> codes(uint64_t{plane.n_coded} * shape.head_dim);
  const float top = shape.codec == PlaneCodec::rot8 ? encode_uniform(plane, rows, codes)
                                                    : encode_nearest(plane, rows, codes);
  write_tiles(plane, codes);
  return top;
}

void encode_f32(const PlaneShape& shape, const HeadRows& rows, std::byte* plane) {
  const uint64_t bytes = shape.head_dim * sizeof(float);
  for (uint32_t row = 0; row < shape.n_rows; ++row)
    std::memcpy(plane + row * bytes, rows[row], bytes);
}

void encode_f16(const PlaneShape& shape, const HeadRows& rows, std::byte* plane) {
  auto* out = reinterpret_cast<uint16_t*>(plane);
  for (uint32_t row = 0; row < shape.n_rows; ++row) {
    for (uint32_t d = 0; d < shape.head_dim; ++d) *out++ = float_to_half(rows[row][d]);
  }
}

// As published: max(|K|) / 127 over all heads and tokens of the layer, at least 1e-8.
float paper_k_scale(const float* rows, uint64_t n) {
  float top = 0;
  for (uint64_t i = 0; i < n; ++i) top = std::max(top, std::abs(tamed(rows[i])));
  return std::max(top / 127.0f, 1e-8f);
}

void encode_paper_k(const PlaneShape& shape, const HeadRows& rows, float scale, std::byte* plane) {
  for (uint32_t row = 0; row < shape.n_rows; ++row) {
    for (uint32_t d = 0; d < shape.head_dim; ++d) {
      const float code = std::nearbyint(tamed(rows[row][d]) / scale);  // half to even
      *plane++ = static_cast<std::byte>(static_cast<int8_t>(std::clamp(code, -128.0f, 127.0f)));
    }
  }
}

// argmin |z - c|, the first of equals.
std::byte paper_code(float z) {
  const auto points = paper_points();
  size_t best = 0;
  for (size_t i = 1; i < points.size(); ++i) {
    if (std::abs(z - points[i]) < std::abs(z - points[best])) best = i;
  }
  return static_cast<std::byte>(best);
}

void encode_paper_v(const PlaneShape& shape, const HeadRows& rows, std::byte* plane) {
  const uint32_t dim = shape.head_dim;
  auto* norms = reinterpret_cast<float*>(plane);
  std::byte* codes = plane + plane_layout(shape).codes;
  const float spread = std::sqrt(static_cast<float>(dim));
  std::array<float, kDimMax> w;
  for (uint32_t row = 0; row < shape.n_rows; ++row) {
    for (uint32_t d = 0; d < dim; ++d) w[d] = tamed(rows[row][d]);
    norms[row] = static_cast<float>(std::sqrt(dot(w.data(), w.data(), dim)));
    for (uint32_t d = 0; d < dim; ++d) w[d] /= std::max(norms[row], 1e-8f);
    hadamard(w.data(), dim);
    for (uint32_t d = 0; d < dim; ++d) *codes++ = paper_code(w[d] * spread);
  }
}

}  // namespace

float encode_head(const PlaneShape& shape, const LayerRows& layer, uint32_t head,
                  std::byte* plane) {
  const uint64_t stride = uint64_t{layer.n_heads} * shape.head_dim;
  const HeadRows rows{layer.values + uint64_t{head} * shape.head_dim, stride};
  switch (shape.codec) {
    case PlaneCodec::f32:
      encode_f32(shape, rows, plane);
      return 0;
    case PlaneCodec::f16:
      encode_f16(shape, rows, plane);
      return 0;
    case PlaneCodec::paper_k8: {
      const float scale = paper_k_scale(layer.values, shape.n_rows * stride);
      encode_paper_k(shape, rows, scale, plane);
      return scale;
    }
    case PlaneCodec::paper_v3:
      encode_paper_v(shape, rows, plane);
      return 0;
    default:
      return encode_rotated(shape, rows, plane);
  }
}

}  // namespace polykv
