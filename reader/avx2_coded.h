// Attention to tiles of codes with AVX2, in integers. Internal to reader/; called by attend_avx2.
#pragma once

#include "reader/avx2_tiles.h"
#include "reader/avx2_weights.h"

namespace polykv::avx2 {

void prepare_queries(const SplitCall& call, const SplitScratch& scratch);
void score_tile(const SplitCall& call, const SplitScratch& scratch, const Block& block);
void add_tile(const SplitCall& call, const SplitScratch& scratch, const Block& block);

}  // namespace polykv::avx2
