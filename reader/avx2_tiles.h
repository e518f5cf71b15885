// What the vector kernels share: blocks of a plane's rows, and plain ones as floats.
// Internal to reader/.
#pragma once

#include <cstdint>

#include "ipc/plane.h"

namespace polykv::avx2 {

inline constexpr uint32_t kTileLd = kTileRows;  // floats from one dimension of a K tile to the next

// From files that are compiled for any CPU.
const float* paper_book();

// A code book in signed bytes, repeated up to 64 points: point = points[code] * step. Exact for 5
// and 6 bits; else the step is the one whose rounding adds least to the codec's error, at most
// 0.1 % (4 bits).
struct ByteBook {
  int8_t points[64];
  float step;
};
const ByteBook& byte_book(int bits);  // 2 to 6

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

// The tile that holds `row`, if it is a coded one before `end`; else nullptr.
const uint8_t* tile_at(const PlaneView& plane, uint32_t row, uint32_t end);
// Asks for a whole tile; nullptr does nothing. The reads of one tile are too few for the CPU's own
// prefetcher to run ahead.
void prefetch_tile(const PlaneView& plane, const uint8_t* tile);

// scale[t] of tokens [0, rows) of the block, and 0 up to 64. false if all are 1. scale: [64].
bool write_scales(const PlaneView& plane, const Block& block, float* scale);

// All codes of a tile, one a byte. codes: [n_codes].
void unpack(const uint8_t* tile, int bits, uint32_t n_codes, uint8_t* codes);

// Plain rows of the block's tokens, transposed. tile: [head_dim, 64], out; columns past the block's
// rows hold anything.
void load_keys(const PlaneView& plane, const Block& block, float* tile);

// Plain rows of tokens [begin, end): returns [end - begin, head_dim], in tile or in the plane
// itself. tile: [64, head_dim].
const float* load_values(const PlaneView& plane, const Block& block, float* tile);

// Where plain rows lie one after the other, and how many bytes a number takes: 4 (f32), 2 (f16), or
// 1 where it is a code of the paper's.
struct Stored {
  const uint8_t* first;  // row block.begin
  uint32_t bytes;
};
Stored stored_rows(const PlaneView& plane, uint32_t row);

}  // namespace polykv::avx2
