// The linear layers of a prefill by packed weights on AMX tiles of bfloat16: activations rounded,
// weights as sums of two, which is all but exact. Sums stay in f32 in the tiles over all inputs:
// that makes them fast. Weights are unpacked by the core that uses them, into its cache.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "ipc/amx.h"
#include "model/prefill_packed.h"

namespace polykv {

class TileProducts : public PackedLayers {
 public:
  // REQUIRES: can_split(). team and config must outlive it. Not thread-safe.
  TileProducts(ThreadTeam& team, const ModelConfig& config);

  void multiply(const Weight& w, const float* x, uint32_t n, float* y) override;
  void feed_forward(const LayerWeights& layer, const float* x, uint32_t n, float* y) override;

  static constexpr uint32_t kRowsAtOnce = 256;  // they, and what is unpacked, fit a core's L2 cache

 private:
  struct Scratch {
    explicit Scratch(const ModelConfig& config);
    std::unique_ptr<uint16_t[], FreeAligned> rows;    // an operand
    std::unique_ptr<uint16_t[], FreeAligned> hidden;  // that of the last product
    std::unique_ptr<uint16_t[], FreeAligned> strip;   // weights of 32 outputs
    std::unique_ptr<float[], FreeAligned> sums;       // [kRowsAtOnce, 32]
  };
  struct Group;
  template <class Work>
  void over_rows(uint32_t n, const Work& work);
  std::unique_ptr<Scratch> take();
  void give_back(std::unique_ptr<Scratch> scratch);
  static void sum(const Scratch& scratch, const Group& first, const Group& second,
                  const uint16_t* x, uint32_t n);
  static void outputs(const Scratch& scratch, const Weight& w, const uint16_t* x, uint32_t n,
                      float* y);

  ThreadTeam& team_;
  const ModelConfig& config_;
  std::mutex lock_;
  std::vector<std::unique_ptr<Scratch>> idle_;  // under lock_; one a thread at most
};

// What it is made of, for one thread. All below need can_split().
namespace tiles {

inline constexpr uint32_t kSide = 32;             // rows, outputs and inputs of a step
inline constexpr uint32_t kStripCols = 288;       // inputs of a strip: fits the L1 cache
inline constexpr size_t kTile = 512;              // numbers of a tile: 32 inputs, 16 outputs
inline constexpr size_t kWeightStep = 4 * kTile;  // of 32 outputs, in two parts

constexpr uint32_t whole_steps(uint32_t n) { return (n + kSide - 1) / kSide * kSide; }
// From one row of an operand to the next: never a power of two, which would load few cache sets.
constexpr size_t row_stride(uint32_t n_cols) { return whole_steps(n_cols) + size_t{kSide}; }

// x: [n, n_cols] -> out: [whole_steps(n), row_stride(n_cols)], zero where x has nothing.
void round_rows(const float* x, uint32_t n, uint32_t n_cols, uint16_t* out);
// Columns [begin, end) of a group's 16 outputs, begin a multiple of 32: tiles,
// kWeightStep apart, and 2 * kTile behind each what rounding left of it, cut off.
void unpack(const Weight& w, uint32_t group, uint32_t begin, uint32_t end, uint16_t* out);

// All tiles are 16 rows of 64 bytes.
inline amx::TileConfig shapes() {
  amx::TileConfig config;
  for (int tile = 0; tile < 8; ++tile) config.shape(tile, 16, 64);
  return config;
}

struct Product {
  const uint16_t* x;  // [n, stride]
  size_t stride;
  uint32_t n;             // a multiple of kSide
  const uint16_t* strip;  // [n_steps, parts, 2, kTile]
  uint32_t parts;         // whose sum the weights are: 1 or 2
  uint32_t n_steps;       // of kSide inputs
  bool adds;              // to the sums; else it begins them
  float* sums;            // [n, 32]
};
// REQUIRES: the thread has tiles of these shapes in use.
void multiply(const Product& product);

// y[i, 0..n_outputs) = sums[i], rows n_rows apart; n_outputs <= 32.
void store_outputs(const float* sums, uint32_t n, uint32_t n_outputs, float* y, size_t stride);
// out[i, 0..16) = silu(sums[i, 0..16)) * sums[i, 16..32), or with GELU by tanh.
void store_gated(const float* sums, uint32_t n, bool gelu, uint16_t* out, size_t stride);

}  // namespace tiles
}  // namespace polykv
