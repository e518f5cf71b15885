// GGUF blocks to w4 and w8, each by itself, and from there to its place among the other rows'. The
// nibble order of Q4_0 and Q4_1 is that of w4. A K block is 256 columns with scales of scales; each
// of its 8 or 16 sub-blocks becomes a block of the image.
#include "model/image_blocks.h"

#include <cmath>
#include <cstring>

#include "ipc/half.h"
#include "model/gguf_parse.h"
#include "model/weight_layout.h"

namespace polykv {
namespace {

constexpr float kHalfMax = 65504;

float load_half(const std::byte* at) {
  uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return half_to_float(bits);
}

uint32_t load_u8(const std::byte* at) { return std::to_integer<uint32_t>(*at); }

bool store_half(float value, std::byte* to) {
  if (!(std::abs(value) <= kHalfMax)) return false;  // false for a NaN, too
  const uint16_t bits = float_to_half(value);
  std::memcpy(to, &bits, sizeof bits);
  return true;
}

void store_code(int code, std::byte* to) { *to = static_cast<std::byte>(code); }

// 18 bytes: d, 32 nibbles. w = d*(q - 8); -8d is exact in f16 unless it is too large.
bool copy_q4_0(const std::byte* block, BlockTarget to) {
  const float d = load_half(block);
  std::memcpy(to.values, block + 2, 16);
  return store_half(d, to.scales) && store_half(-8 * d, to.scales + 2);
}

// 20 bytes: d, m, 32 nibbles.
bool copy_q4_1(const std::byte* block, BlockTarget to) {
  std::memcpy(to.values, block + 4, 16);
  return store_half(load_half(block), to.scales) && store_half(load_half(block + 2), to.scales + 2);
}

// 34 bytes: d, 32 signed codes.
bool copy_q8_0(const std::byte* block, BlockTarget to) {
  std::memcpy(to.values, block + 2, 32);
  return store_half(load_half(block), to.scales);
}

// 32 codes of Q5_0 and Q5_1: bit j of a word is the fifth bit of code j, 16 bytes of nibbles
// follow.
void copy_codes_q5(const std::byte* bits, int zero, std::byte* to) {
  uint32_t fifth;
  std::memcpy(&fifth, bits, sizeof fifth);
  for (uint32_t j = 0; j < 32; ++j) {
    const uint32_t byte = load_u8(bits + 4 + j % 16);
    const uint32_t code = (j < 16 ? byte & 15 : byte >> 4) | (fifth >> j & 1) << 4;
    store_code(static_cast<int>(code) - zero, to + j);
  }
}

// 22 bytes: d, codes. w = d*(q - 16).
bool copy_q5_0(const std::byte* block, BlockTarget to) {
  copy_codes_q5(block + 2, 16, to.values);
  return store_half(load_half(block), to.scales);
}

// 24 bytes: d, m, codes.
bool copy_q5_1(const std::byte* block, BlockTarget to) {
  copy_codes_q5(block + 4, 0, to.values);
  return store_half(load_half(block), to.scales) && store_half(load_half(block + 2), to.scales + 2);
}

// Q4_K and Q5_K begin with d, dmin and 12 bytes of 6-bit numbers: 8 scales and 8 minima. The first
// four of each are the low bits of bytes 0-3 and 4-7; the others have their low four bits in bytes
// 8-11, their high two above the first ones. w = d*scale*q - dmin*minimum.
bool copy_scales_k(const std::byte* block, std::byte* to) {
  const float d = load_half(block), d_min = load_half(block + 2);
  const std::byte* packed = block + 4;
  for (uint32_t j = 0; j < 8; ++j, to += 4) {
    uint32_t scale = load_u8(packed + j) & 63, minimum = load_u8(packed + j + 4) & 63;
    if (j >= 4) {
      const uint32_t low = load_u8(packed + j + 4);
      scale = (low & 15) | load_u8(packed + j - 4) >> 6 << 4;
      minimum = low >> 4 | load_u8(packed + j) >> 6 << 4;
    }
    if (!store_half(d * static_cast<float>(scale), to)) return false;
    if (!store_half(-d_min * static_cast<float>(minimum), to + 2)) return false;
  }
  return true;
}

// Code `i` of sub-block `j`: 32 bytes hold sub-block 2n in their low nibbles, 2n + 1 in the high.
uint32_t nibble_k(const std::byte* nibbles, uint32_t j, uint32_t i) {
  return load_u8(nibbles + j / 2 * 32 + i) >> j % 2 * 4 & 15;
}

// 144 bytes: scales as above, nibbles.
bool copy_q4_k(const std::byte* block, BlockTarget to) {
  for (uint32_t j = 0; j < 8; ++j) {
    for (uint32_t i = 0; i < 16; ++i) {
      const uint32_t low = nibble_k(block + 16, j, i), high = nibble_k(block + 16, j, i + 16);
      to.values[j * 16 + i] = static_cast<std::byte>(low | high << 4);
    }
  }
  return copy_scales_k(block, to.scales);
}

// 176 bytes: scales as above, 32 bytes whose bit j is the fifth bit of sub-block j, nibbles.
bool copy_q5_k(const std::byte* block, BlockTarget to) {
  for (uint32_t j = 0; j < 8; ++j) {
    for (uint32_t i = 0; i < 32; ++i) {
      const uint32_t fifth = load_u8(block + 16 + i) >> j & 1;
      const uint32_t code = nibble_k(block + 48, j, i) | fifth << 4;
      store_code(static_cast<int>(code), to.values + j * 32 + i);
    }
  }
  return copy_scales_k(block, to.scales);
}

// 210 bytes: 128 of nibbles, 64 of upper bit pairs, 16 signed scales, d. Each half of the block has
// 64 bytes of nibbles (columns 0-63 low, 64-127 high) and 32 of pairs (columns 32n + i in byte i at
// bit 2n). w = d*scale*(q - 32).
bool copy_q6_k(const std::byte* block, BlockTarget to) {
  for (uint32_t c = 0; c < 256; ++c) {
    const uint32_t half = c / 128, in = c % 128;
    const uint32_t low = load_u8(block + half * 64 + in % 64) >> in / 64 * 4 & 15;
    const uint32_t high = load_u8(block + 128 + half * 32 + in % 32) >> in / 32 * 2 & 3;
    store_code(static_cast<int>(low | high << 4) - 32, to.values + c);
  }
  const float d = load_half(block + 208);
  for (uint32_t j = 0; j < 16; ++j) {
    const auto scale = static_cast<float>(static_cast<int8_t>(block[192 + j]));
    if (!store_half(d * scale, to.scales + j * 2)) return false;
  }
  return true;
}

}  // namespace

const BlockForm* block_form(GgufType type) {
  static constexpr BlockForm kQ40{WeightType::w4, 32, 1, false, copy_q4_0};
  static constexpr BlockForm kQ41{WeightType::w4, 32, 1, false, copy_q4_1};
  static constexpr BlockForm kQ50{WeightType::w8, 32, 0, false, copy_q5_0};
  static constexpr BlockForm kQ51{WeightType::w8, 32, 1, false, copy_q5_1};
  static constexpr BlockForm kQ80{WeightType::w8, 32, 0, false, copy_q8_0};
  static constexpr BlockForm kQ4K{WeightType::w4, 32, 1, true, copy_q4_k};
  static constexpr BlockForm kQ5K{WeightType::w8, 32, 1, true, copy_q5_k};
  static constexpr BlockForm kQ6K{WeightType::w8, 16, 0, true, copy_q6_k};
  switch (type) {
    case GgufType::q4_0:
      return &kQ40;
    case GgufType::q4_1:
      return &kQ41;
    case GgufType::q5_0:
      return &kQ50;
    case GgufType::q5_1:
      return &kQ51;
    case GgufType::q8_0:
      return &kQ80;
    case GgufType::q4_k:
      return &kQ4K;
    case GgufType::q5_k:
      return &kQ5K;
    case GgufType::q6_k:
      return &kQ6K;
    case GgufType::f32:
    case GgufType::f16:
    case GgufType::bf16:
      break;
  }
  return nullptr;
}

void place_block(const PackedBlock& from, const Weight& form, uint32_t row, uint32_t block,
                 BlockTarget to) {
  std::byte* codes = to.values + code_offset(form, row, block);
  const uint32_t n_bytes = form.type == WeightType::w4 ? form.block / 2 : form.block;
  for (uint32_t i = 0; i < n_bytes; i += 4) {
    uint32_t four;
    std::memcpy(&four, from.codes + i, sizeof four);
    if (form.type == WeightType::w8) four ^= 0x80808080;  // the same as adding kCodeZero to each
    std::memcpy(codes + i * kGroupRows, &four, sizeof four);
  }
  std::byte* scales = to.scales + scale_offset(form, row, block) * 2;
  for (uint32_t i = 0; i <= form.has_min; ++i) {
    std::memcpy(scales + size_t{i} * kGroupRows * 2, from.scales + size_t{i} * 2, 2);
  }
}

bool copy_blocks(const FileTensor& tensor, const BlockForm& blocks, const Weight& form,
                 RowRange rows, BlockTarget to) {
  const GgufTypeInfo& file = *gguf_type_info(static_cast<uint32_t>(tensor.type));
  const uint32_t n_bytes = form.type == WeightType::w4 ? form.block / 2 : form.block;
  const uint32_t in_file = file.block / form.block;  // blocks of the image in one of the file
  std::byte codes[256], scales[64];
  const uint64_t row_bytes = uint64_t{form.n_cols} / file.block * file.bytes;
  const std::byte* block = tensor.data.data() + rows.begin * row_bytes;
  for (uint32_t row = rows.begin; row < rows.end; ++row) {
    for (uint32_t b = 0; b < row_blocks(form); b += in_file, block += file.bytes) {
      if (!blocks.copy(block, {codes, scales})) return false;
      for (uint32_t i = 0; i < in_file; ++i) {
        const size_t first_scale = size_t{i} * 2 * (1 + form.has_min);
        place_block({codes + size_t{i} * n_bytes, scales + first_scale}, form, row, b + i, to);
      }
    }
  }
  return true;
}

}  // namespace polykv
