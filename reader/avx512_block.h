// What the AVX-512 kernels share: how a block of at most 64 tokens passes from products to weights
// to sums, for all queries alike and in a fixed order, whoever multiplies. Internal to reader/.
//
// A query's state is (ref, lanes, acc): sums of 2^(score - ref), score in powers of 2. The first
// block's largest score becomes ref, rounded to a whole number; a later one's only where scores lie
// so far above that sums might overflow, and the sums so far are then brought to it. A coded V's
// weights are p * scale of the token, as integers with a step for each block.
#pragma once

#include "reader/attend.h"
#include "reader/avx2_tiles.h"

namespace polykv::avx512 {

using Block = avx2::Block;

inline constexpr uint32_t kGroupMax = 16;  // queries whose products lie in the scratch at once
// Floats from a query's weights of a block to the next one's: 64 f32, or [2, 64] bytes; then 16
// partial sums of the weights.
inline constexpr uint32_t kWeightStride = kTileRows + 16;
inline constexpr uint32_t kWeightSums = kTileRows;
// Integers from a query's products to the next one's. Two buffers lie in turns: as loads look only
// at the last 12 bits of addresses, they would wait for what is stored 4096 bytes away.
inline constexpr uint32_t kProductStride = 2 * kTileRows;

// Parts of a call's scratch, each on 64 bytes. Where 16 queries are handled at once, there is room
// for whole groups.
struct Scratch {
  float* tile;       // [kTileRows, head_dim] plain rows, or points of codes in bytes
  uint8_t* codes;    // [kTileRows * head_dim] of a short tile
  int32_t* sums[2];  // [kGroupMax, kProductStride]: products of a group; f32 of plain rows
  int8_t* q;         // [n_queries, 2 * head_dim]: quantised queries
  float* weights;    // [n_queries, kWeightStride]
  float* lanes;      // [n_queries, 16]: sums of weights
  float* q_step;     // [n_queries]: q = step * integer
  int32_t* q_start;  // [n_queries]: what points of K that are 128 too high add, taken back
  float* ref;        // [n_queries]
  float* off;        // [n_queries]: what brings products of coded rows to ref
  float* gain;       // [n_queries]: what 1 counts in the block's weights that are integers
  // The tile to ask for while the present one is at work, a little at a time: all its lines at once
  // would wait for each other. nullptr: none.
  const uint8_t* ahead;
  uint32_t ahead_bytes, ahead_share;  // of the tile; of its second half for each query
};
Scratch cut_scratch(const SplitCall& call);
constexpr size_t scratch_floats(uint32_t n_queries, uint32_t head_dim) {
  const size_t n = (n_queries + 15) / 16 * 16;
  return size_t{kTileRows} * head_dim + 2 * kGroupMax * kTileRows +
         n * (head_dim / 2 + kWeightStride + 5) + size_t{n_queries} * 16 + 16;
}

// Of a block's tokens.
struct BlockFacts {
  alignas(64) float scale[kTileRows];  // of K, times log2(e)
  alignas(64) float value[kTileRows];  // scale of a coded V, as it is stored
  uint64_t there;                      // tokens of the block
  bool k_coded, v_coded;
};
void write_facts(const SplitCall& call, const Block& block, BlockFacts* facts);

// 255 or 65535 (V of 6 bits and more): the largest quantised weight.
bool has_wide_weights(const PlaneView& v);
// Queries take 16 bits, in two planes, where K itself is that exact.
bool has_wide_queries(const PlaneView& k);

float score_unit(const PlaneView& k);  // what 1 counts in a tile's scores, times log2(e)
float value_unit(const PlaneView& v);  // what 1 counts in a tile's products of weights and points

void start(const SplitCall& call, const Scratch& scratch);
// Products of queries [first, first + n) with the block's rows become weights, and their sums join
// lanes. products: [n, kProductStride].
void weigh(const SplitCall& call, const Scratch& scratch, const BlockFacts& facts, uint32_t first,
           uint32_t n, const int32_t* products);
// acc += gain * products, for 64 dimensions from d on. products: [n, kProductStride].
void add_products(const SplitCall& call, const Scratch& scratch, uint32_t first, uint32_t n,
                  uint32_t d, const int32_t* products);
// The mean of V counts once for each coded row. REQUIRES: no other rows have been added.
void add_means(const SplitCall& call, const Scratch& scratch);
void finish(const SplitCall& call, const Scratch& scratch);

// Plain rows (f32, f16, sinks, paper) of tokens from block.begin on, one after the other. Sums are
// f32.
struct PlainRows {
  const uint8_t* first;
  uint32_t bytes;        // of a number: 4 (f32) or 2 (f16)
  const uint8_t* ahead;  // rows to ask for, one with each of these
  uint32_t n_ahead, ahead_bytes;
};
// A block's. They ask for each other a block ahead: V's while K's are at work, and the other way
// round. Codes of the paper's become f32, in tile.
PlainRows key_rows(const SplitCall& call, const Block& block, float* tile);
PlainRows value_rows(const SplitCall& call, const Block& block, float* tile);
void score_rows(const SplitCall& call, const Block& block, const PlainRows& rows, uint32_t first,
                uint32_t n, float* scores);
void add_rows(const SplitCall& call, const Scratch& scratch, const Block& block,
              const PlainRows& rows);

}  // namespace polykv::avx512
