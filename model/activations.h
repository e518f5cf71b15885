// One operand of the step's products: rows of activations, in f32 and in 16-bit integers for packed
// weights. Prepared once for all products that share it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace polykv {

inline constexpr uint32_t kActivationBlock = 32;  // columns that share a scale

// x = scale * q with |q| <= 32639, so that q = 256 * hi + lo in two signed bytes. The scale is a
// power of two: products with it are exact. Index 0: the whole block; 1, 2: its halves.
struct BlockFacts {
  float scale;
  float sums[3];     // scale * sum of q: what a weight's minimum is multiplied by
  int32_t zeros[3];  // -128 * sum of q: undoes that w8 codes are stored 128 higher
  uint32_t reserved;
};
static_assert(sizeof(BlockFacts) == 32);

// Columns past n_cols, up to a whole block, count as 0.
struct Activations {
  uint32_t n = 0, n_cols = 0, n_blocks = 0;
  const float* x = nullptr;     // [n, n_cols]
  int8_t* planes = nullptr;     // [n, n_blocks, 2, 32]: hi, lo; on 64 bytes
  int16_t* wide = nullptr;      // [n, n_blocks, 32]: q; on 64 bytes
  BlockFacts* facts = nullptr;  // [n, n_blocks]
};

// Fills the scale (and its inverse) by the largest magnitude of a block, given as the bits of that
// float. An infinity or NaN makes the scale NaN, so that it shows in whatever is computed from it.
void set_block_scale(uint32_t largest_bits, BlockFacts* facts, float* inverse);

struct FreeAligned {
  static constexpr std::align_val_t kAlignment{64};
  void operator()(void* p) const { ::operator delete[](p, kAlignment); }
};
// Uninitialised, on 64 bytes (else every other vector load would cross a cache line: measured, a
// third of a 32-row step). Pages that no step has used stay untouched.
template <class T>
std::unique_ptr<T[], FreeAligned> aligned_array(size_t n) {
  return std::unique_ptr<T[], FreeAligned>(
      static_cast<T*>(::operator new[](n * sizeof(T), FreeAligned::kAlignment)));
}

// Room for the integers of at most `rows` rows of `cols` columns.
class ActivationBuffer {
 public:
  ActivationBuffer(uint32_t rows, uint32_t cols);
  // The rows of x, to be quantised before a product with packed weights. Valid until the next call.
  Activations of(const float* x, uint32_t n, uint32_t n_cols) const;

 private:
  std::unique_ptr<int8_t[], FreeAligned> planes_;
  std::unique_ptr<int16_t[], FreeAligned> wide_;
  std::unique_ptr<BlockFacts[], FreeAligned> facts_;
};

}  // namespace polykv
