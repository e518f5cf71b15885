// The scale of a block of activations, and room for the integers.
#include "model/activations.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace polykv {
namespace {

uint32_t blocks_of(uint32_t cols) { return (cols + kActivationBlock - 1) / kActivationBlock; }

float power_of_two(int exponent) {
  return std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23);
}

}  // namespace

void set_block_scale(uint32_t largest_bits, BlockFacts* facts, float* inverse) {
  if (largest_bits >= 0x7f800000) {
    facts->scale = std::numeric_limits<float>::quiet_NaN();
    *inverse = 0;
    return;
  }
  // The largest magnitude becomes 16384 to 32639: what comes above takes one more bit.
  const float raised = std::bit_cast<float>(largest_bits) * (32768.0f / 32639.0f);
  const int exponent = static_cast<int>(std::bit_cast<uint32_t>(raised) >> 23) - 127;
  const int kept = std::max(exponent, -100);  // below that both powers would leave the range
  facts->scale = power_of_two(kept - 14);
  *inverse = power_of_two(14 - kept);
}

ActivationBuffer::ActivationBuffer(uint32_t rows, uint32_t cols)
    : planes_(aligned_array<int8_t>(size_t{rows} * blocks_of(cols) * 2 * kActivationBlock)),
      wide_(aligned_array<int16_t>(size_t{rows} * blocks_of(cols) * kActivationBlock)),
      facts_(aligned_array<BlockFacts>(size_t{rows} * blocks_of(cols))) {}

Activations ActivationBuffer::of(const float* x, uint32_t n, uint32_t n_cols) const {
  return {n, n_cols, blocks_of(n_cols), x, planes_.get(), wide_.get(), facts_.get()};
}

}  // namespace polykv
