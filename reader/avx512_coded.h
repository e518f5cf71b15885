// Products of codes with AVX-512 and VNNI. Internal to reader/.
#pragma once

#include "reader/avx512_block.h"

namespace polykv::avx512 {

void prepare_queries(const SplitCall& call, const Scratch& scratch);  // K is coded

// Ways to multiply give: kGroup, the queries handled at once; kSigned, whether points of K are
// signed, or 128 too high;
//   start_scores: before all groups of a block;
//   score: a block's points of K times queries [first, first + n): products [n, kProductStride];
//   add: acc += its points of V, of 64 dimensions from d on, times the weights of all queries.
// points: of the block's tile, one a byte, in the order of the codes.
struct Vnni {
  static constexpr uint32_t kGroup = 12;
  static constexpr bool kSigned = false;
  static void start_scores(const SplitCall&, const Block&, const uint8_t*) {}
  static void score(const SplitCall& call, const Scratch& scratch, const Block& block,
                    const uint8_t* points, uint32_t first, uint32_t n, int32_t* products);
  static void add(const SplitCall& call, const Scratch& scratch, const Block& block,
                  const uint8_t* points, uint32_t d);
};

// Calls make(first, n, products) and use(first, n, products) for groups of all queries; what is
// used next is being made meanwhile.
template <class Products, class Make, class Use>
void in_groups(const SplitCall& call, const Scratch& scratch, const Make& make, const Use& use) {
  const auto size_at = [&](uint32_t first) {
    const uint32_t left = call.n_queries - first;
    return left < Products::kGroup ? left : Products::kGroup;
  };
  make(0, size_at(0), scratch.sums[0]);
  for (uint32_t first = 0, turn = 0; first < call.n_queries; ++turn) {
    const uint32_t n = size_at(first), next = first + n;
    if (next < call.n_queries) make(next, size_at(next), scratch.sums[(turn + 1) % 2]);
    use(first, n, scratch.sums[turn % 2]);
    first = next;
  }
}

}  // namespace polykv::avx512
