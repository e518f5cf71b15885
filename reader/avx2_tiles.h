// What the vector kernels share: blocks of a plane's rows as floats, and scores as weights.
// Internal to reader/.
#pragma once

#include <cstdint>

#include "ipc/plane.h"

namespace polykv::avx2 {

inline constexpr uint32_t kTileLd = kTileRows;  // floats from one dimension of a K tile to the next

// Tables, from a file that is compiled for any CPU: kernels.cpp.
const float* book_of(int bits);
const float* paper_book();

// Rows [begin, end) that can be loaded together: of one tile of codes, or of plain rows.
struct Block {
  uint32_t first;  // row of the tile's token 0; begin for plain rows
  uint32_t rows;   // tokens in the tile; end - begin for plain rows
  uint32_t begin, end;
  bool coded;  // a tile of a rot<b> plane
};
Block block_at(const PlaneView& plane, uint32_t row, uint32_t row_end);

// Packed codes of a coded block's tile.
const uint8_t* tile_of(const PlaneView& plane, const Block& block);

// Asks for the tile that holds `row`, if there is one: the reads of one tile are too few for the
// CPU's own prefetcher to run ahead.
void prefetch_tile(const PlaneView& plane, uint32_t row);

// scale[t] of tokens [0, rows) of the block, and 0 up to 64. false if all are 1. scale: [64].
bool write_scales(const PlaneView& plane, const Block& block, float* scale);

// Code points of the block's tokens, transposed. codes: [64 * head_dim + 32] scratch.
// tile: [head_dim, 64], out; columns past the block's rows hold anything.
void load_keys(const PlaneView& plane, const Block& block, uint8_t* codes, float* tile);

// Code points of tokens [begin, end): returns [end - begin, head_dim], in tile or in the plane
// itself. tile: [64, head_dim].
const float* load_values(const PlaneView& plane, const Block& block, uint8_t* codes, float* tile);

}  // namespace polykv::avx2
