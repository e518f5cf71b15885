// AMX: whether tiles may be used here, and what every kernel on tiles needs to use them.
//
// Tiles are loaded, multiplied and stored by hand: the intrinsics of g++ 12 do not say that they
// touch memory, so that stores before them get lost.
#pragma once

#include <cstddef>
#include <cstdint>

namespace polykv {

// Whether the CPU has tiles of bytes and the system lets this process use them, for good: it must
// be asked, because tiles make the state of a thread large, and answers no where it does not keep
// them.
bool has_amx_tiles();

namespace amx {

// What `ldtilecfg` reads.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  void shape(int tile, uint8_t n_rows, uint16_t bytes) {
    rows[tile] = n_rows;
    row_bytes[tile] = bytes;
  }
};
static_assert(sizeof(TileConfig) == 64);

// A thread has tiles only as long as this lives: else every switch between threads would save them.
class TilesInUse {
 public:
  explicit TilesInUse(const TileConfig& config) {
    asm volatile("ldtilecfg %0" : : "m"(config) : "memory");
  }
  ~TilesInUse() { asm volatile("tilerelease" : : : "memory"); }
  TilesInUse(const TilesInUse&) = delete;
  TilesInUse& operator=(const TilesInUse&) = delete;
};

// stride: bytes from one row to the next.
template <int Tile>
inline void load_tile(const void* rows, size_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(rows), "r"(stride), "i"(Tile) : "memory");
}
template <int Tile>
inline void store_tile(void* rows, size_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(rows), "r"(stride), "i"(Tile) : "memory");
}
template <int Tile>
inline void clear_tile() {
  asm volatile("tilezero %%tmm%c0" : : "i"(Tile));
}

}  // namespace amx
}  // namespace polykv
