// The self-test of a prefill's tiles of bfloat16: they are trusted once they have reproduced known
// vectors, as every other kernel.
#pragma once

#include "model/image.h"
#include "model/prefill_attend.h"

namespace polykv {

// What a prefill computes on tiles, for one thread; tests replace them by broken ones.
struct TileKernels {
  // As PackedLayers::multiply() and feed_forward().
  void (*multiply)(const Weight& w, const float* x, uint32_t n, float* y);
  void (*feed_forward)(const ModelConfig& config, const LayerWeights& layer, const float* x,
                       uint32_t n, float* y);
  void (*attend)(const PrefillAttention& layer);
};

// The prefill's own. REQUIRES, to be called: can_split().
TileKernels tile_kernels();

// Sums of small integers must be exact, what is rounded on the way near the textbook's. Less than a
// millisecond.
bool keeps_to_the_specification(const TileKernels& tiles);

}  // namespace polykv
