// One plane: the rows of K or V of one (layer, KV head), encoded. Byte layout: docs/format.md.
//
//   rot<b>    mean f32 [head_dim] | sinks f16 [n_sinks, head_dim] | scales u8 [n_coded] | tiles
//   f32, f16  rows [n_rows, head_dim]
//   paper_k8  codes s8 [n_rows, head_dim]
//   paper_v3  norms f32 [n_rows] | codes u8 [n_rows, head_dim]
//
// Each section starts on 64 bytes. The reference decode here is the specification for every reader.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "ipc/codec.h"

namespace polykv {

enum class PlaneKind : uint16_t { k = 1, v = 2, tokens = 3 };  // stored: never renumber

struct PlaneShape {
  PlaneKind kind = PlaneKind::k;
  PlaneCodec codec = PlaneCodec::rot4;
  uint32_t n_rows = 0;   // tokens, sinks included
  uint32_t n_sinks = 0;  // leading rows kept exact (rot<b> only)
  uint32_t head_dim = 0;
};

// Where the sections of a plane lie, in bytes from its start.
struct PlaneLayout {
  uint64_t mean = 0, sinks = 0, scales = 0, codes = 0;
  uint64_t bytes = 0;  // whole plane
};
PlaneLayout plane_layout(const PlaneShape& shape);

// A validated plane in mapped memory; plain pointers, so that kernels need nothing else.
struct PlaneView {
  PlaneShape shape;
  float scale_max = 0;               // rot<b>: scale of u8 255; paper_k8: the layer's scale
  const float* mean = nullptr;       // [head_dim]
  const uint16_t* sinks = nullptr;   // [n_sinks, head_dim] f16
  const uint8_t* scales = nullptr;   // [n_rows - n_sinks] u8
  const std::byte* codes = nullptr;  // tiles; or the rows of f32/f16/paper
  const float* norms = nullptr;      // [n_rows], paper_v3 only
};
PlaneView plane_view(const PlaneShape& shape, float scale_max, const std::byte* plane);

// Rows that a rotated plane codes: all but the sinks. 0 for the other codecs.
uint32_t coded_rows(const PlaneShape& shape);
// Scale of coded row `coded` (counted without the sinks) of a rot<b> plane.
inline float row_scale(const PlaneView& plane, uint32_t coded) {
  return static_cast<float>(plane.scales[coded]) * (plane.scale_max / 255.0f);
}

// Position of (row t, dimension d) in the code sequence of a tile with `rows` rows (V: padded to
// 4): K groups 4 dimensions of one token, V groups 4 tokens of one dimension (for 4-byte dot
// products).
uint32_t code_index(PlaneKind kind, uint32_t rows, uint32_t head_dim, uint32_t t, uint32_t d);
// Bytes of one tile's codes.
uint64_t tile_bytes(PlaneKind kind, int bits, uint32_t rows, uint32_t head_dim);
// All codes of a tile, one per byte, in code_index order. out: [tile rows (padded) * head_dim].
void unpack_tile(const std::byte* tile, int bits, uint32_t n_codes, uint8_t* out);
void pack_tile(const uint8_t* codes, int bits, uint32_t n_codes, std::byte* tile);

// One layer's K or V: [shape.n_rows, n_heads, head_dim] f32.
struct LayerRows {
  const float* values;
  uint32_t n_heads;
};
// Encodes one head of a layer; returns its scale_max. plane: plane_layout().bytes zeroed bytes.
// Threads may encode different heads. In the lossy codecs NaN counts as 0 and magnitudes stop at
// 1e30, so that no input can spoil its neighbours.
float encode_head(const PlaneShape& shape, const LayerRows& layer, uint32_t head, std::byte* plane);

// PolyKV's 3-bit points, ascending (arXiv 2604.24971), and paper_v3's factor norm / sqrt(head_dim).
std::span<const float> paper_points();

// One row before its scale and its inverse transform: row = scale * points, in the rotated space
// where is_row_rotated() says so. out: [head_dim]. Returns the scale.
float row_points(const PlaneView& plane, uint32_t row, float* out);
// A coded row of rot<b>, or any row of paper_v3.
bool is_row_rotated(const PlaneView& plane, uint32_t row);
// From the rotated space back: Hadamard, then (rot<b> only) the signs. x: [head_dim].
void rotate_back(PlaneCodec codec, uint32_t head_dim, float* x);

// Row `row` of a plane as the codec means it. out: [head_dim]. The specification.
void decode_row(const PlaneView& plane, uint32_t row, float* out);

}  // namespace polykv
