// Attention to tiles of codes with AVX-512 and VNNI, and the softmax. Internal to reader/.
#pragma once

#include "reader/avx2_tiles.h"
#include "reader/avx2_weights.h"

namespace polykv::avx512 {

using Block = avx2::Block;
using Scratch = avx2::SplitScratch;

// points: of the block's tile, one a byte, in the order of the codes; of K 128 too high.
void prepare_queries(const SplitCall& call, const Scratch& scratch);
void score_tile(const SplitCall& call, const Scratch& scratch, const Block& block,
                const uint8_t* points);
// The weights of a tile's tokens become bytes with a step of their own, where the weights lie. All
// tiles of a split before any add_tile: waiting for one tile's step would take as long as its sums.
void quantise_tile(const SplitCall& call, const Scratch& scratch, const Block& block);
void add_tile(const SplitCall& call, const Scratch& scratch, const Block& block,
              const uint8_t* points);

void weigh(const SplitCall& call, float* scores);  // as avx2::weigh

}  // namespace polykv::avx512
