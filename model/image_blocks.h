// The block formats of quantised GGUF tensors, and which weight form holds each.
#pragma once

#include "model/gguf.h"
#include "model/image.h"

namespace polykv {

// Rows [begin, end).
struct RowRange {
  uint32_t begin, end;
};

// Where a block's parts go.
struct BlockTarget {
  std::byte* values;
  std::byte* scales;
};

struct BlockForm {
  WeightType type;  // w4 or w8
  uint32_t block;   // columns per scale in the image; a block of the file may hold several
  uint32_t has_min;
  bool rounds;  // scales are products of the file's numbers, rounded to f16
  // One block of the file: its codes, of w4 (byte j = code j | code j + 16 << 4) or w8 (signed),
  // and {d} or {d, m} of each of its blocks. false if a number is not finite or a scale is too
  // large for f16.
  bool (*copy)(const std::byte* block, BlockTarget to);
};

const BlockForm* block_form(GgufType type);  // nullptr: the type has no blocks

// One block of the image before it takes its place.
struct PackedBlock {
  const std::byte* codes;
  const std::byte* scales;
};
void place_block(const PackedBlock& from, const Weight& form, uint32_t row, uint32_t block,
                 BlockTarget to);

// All blocks of some rows of a tensor of that form. `to` is the whole weight's, zero before.
bool copy_blocks(const FileTensor& tensor, const BlockForm& blocks, const Weight& form,
                 RowRange rows, BlockTarget to);

}  // namespace polykv
