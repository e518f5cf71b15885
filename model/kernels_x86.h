// What the vector kernels share: the walk over a packed matrix. Internal to model/.
//
// Everything here is a member of a template, so that an Isa in an anonymous namespace keeps the
// code for one CPU from being merged with that for another.
#pragma once

#include "model/kernels.h"

namespace polykv {

// Rows of f16, bf16 and f32.
void matmul_plain_avx2(const Weight& w, const Activations& x, uint32_t row_begin, uint32_t row_end,
                       float* y, float* scratch);

enum class PackedForm { w4, w8_32, w8_16 };  // the number: columns of a scale

// Isa gives kRowsMax and group<Form, N>(w, x, m, g, y): 16 outputs of group g for rows m to m + N
// of x, N <= kRowsMax. A group's weights are unpacked once for its N rows. With kPairs also
// pair<Form>(w, x, m, g, h, y): row m for two groups in step.
template <class Isa>
struct PackedWalk {
  // Weights that stay in the L2 cache while all rows of x pass over them, kRowsMax at a time.
  static constexpr uint64_t kChunkBytes = 256 << 10;

  template <PackedForm Form, int N>
  static void groups(const Weight& w, const Activations& x, uint32_t m, uint32_t begin,
                     uint32_t end, float* y) {
    if constexpr (N > 1) {
      if (x.n - m < static_cast<uint32_t>(N)) return groups<Form, N - 1>(w, x, m, begin, end, y);
    }
    if constexpr (N == 1 && Isa::kPairs) {  // two streams come faster from memory than one
      const uint32_t half = (end - begin) / 2;
      for (uint32_t i = 0; i < half; ++i, ++begin) {
        Isa::template pair<Form>(w, x, m, begin, begin + half, y);
      }
      begin += half;
    }
    for (uint32_t g = begin; g < end; ++g) Isa::template group<Form, N>(w, x, m, g, y);
  }

  template <PackedForm Form>
  static void rows(const Weight& w, const Activations& x, uint32_t row_begin, uint32_t row_end,
                   float* y) {
    const uint64_t group_bytes = uint64_t{w.n_cols} * (Form == PackedForm::w4 ? 8 : 16) +
                                 uint64_t{w.n_cols} / w.block * 32 * (1 + w.has_min);
    const uint32_t end = (row_end + 15) / 16;
    const uint64_t fitting = kChunkBytes / group_bytes;
    const uint32_t step = fitting == 0 ? 1 : static_cast<uint32_t>(fitting);
    for (uint32_t g = row_begin / 16; g < end; g += step) {
      const uint32_t last = end - g < step ? end : g + step;
      for (uint32_t m = 0; m < x.n; m += Isa::kRowsMax) {
        groups<Form, Isa::kRowsMax>(w, x, m, g, last, y);
      }
    }
  }

  static void matmul(const Weight& w, const Activations& x, uint32_t row_begin, uint32_t row_end,
                     float* y) {
    if (row_begin >= row_end) return;
    if (w.type == WeightType::w4) return rows<PackedForm::w4>(w, x, row_begin, row_end, y);
    if (w.block == 32) return rows<PackedForm::w8_32>(w, x, row_begin, row_end, y);
    rows<PackedForm::w8_16>(w, x, row_begin, row_end, y);
  }

  // Where the numbers of a group's block lie.
  template <PackedForm Form>
  struct Block {
    static constexpr uint32_t kCols = Form == PackedForm::w8_16 ? 16 : 32;
    static constexpr uint32_t kBytes = Form == PackedForm::w8_32 ? 512 : 256;
    const uint8_t* codes;    // [kBytes]
    const uint16_t* scales;  // d[16], m[16]
    uint32_t has_min;
    uint32_t n_blocks;

    Block(const Weight& w, uint32_t group) : has_min(w.has_min), n_blocks(w.n_cols / kCols) {
      const size_t first = size_t{group} * n_blocks;
      codes = reinterpret_cast<const uint8_t*>(w.values) + first * kBytes;
      scales = w.scales + first * 16 * (1 + has_min);
    }
    void next() {
      codes += kBytes;
      scales += 16 * (1 + has_min);
    }
    // Weights are read once a step and come from memory. Past the end of a mapping it does nothing.
    void fetch_ahead() const {
      constexpr uint32_t kAhead = 4096;
      for (uint32_t i = 0; i < kBytes; i += 64) __builtin_prefetch(codes + kAhead + i, 0, 3);
      __builtin_prefetch(scales + kAhead / kBytes * 16 * (1 + has_min), 0, 3);
    }
  };
  // Part of a block's facts that belongs to block b of the weights.
  template <PackedForm Form>
  static uint32_t part_of(uint32_t b) {
    return Form == PackedForm::w8_16 ? 1 + b % 2 : 0;
  }
};

}  // namespace polykv
