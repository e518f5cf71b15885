// The bytes of a model image: all that packing and mapping share.
// Raise kImageAbi when a field's width, order or meaning changes (docs/format.md, "Model image").
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "model/config.h"

namespace polykv {

inline constexpr uint64_t kImageMagic = 0x0000474d49564b50;  // "PKVIMG", two zero bytes
inline constexpr uint32_t kImageAbi = 5;
inline constexpr uint64_t kImageAlign = 64;  // bytes, of every section and plane
inline constexpr uint32_t kNoToken = 0xffffffff;
inline constexpr uint32_t kEndsMax = 8;  // tokens that end an answer, beside eos
inline constexpr uint16_t kNoLayer = 0xffff;

// The index of a section in the header: never renumber.
enum class ImageSection : uint32_t {
  name = 0,         // UTF-8
  chat_format = 1,  // "chatml"
  text_offsets = 2,
  texts = 3,
  kinds = 4,
  text_slots = 5,
  merge_slots = 6,
  merges = 7,
  tensors = 8,  // TensorEntry, in the order of image_plan()
};
inline constexpr uint32_t kImageSections = 9;

struct SectionRange {
  uint64_t offset;  // from the image's start, multiple of 64
  uint64_t bytes;   // without the padding to the next section
};

// What a request that says nothing is sampled with (model/sampler.h).
struct StoredSampling {
  float temperature;
  uint32_t top_k;
  float top_p;
  float min_p;
  float repetition_penalty;
};

struct ImageHeader {
  uint64_t magic;
  uint32_t abi;
  uint32_t header_bytes;     // sizeof(ImageHeader)
  uint64_t bytes;            // whole image = size of its memory
  uint8_t fingerprint[16];   // XXH3-128 of the bytes from `config` to the image's end
  uint64_t header_checksum;  // XXH3-64 of the header with this field 0
  uint8_t reserved0[16];
  ModelConfig config;
  uint32_t bos;  // kNoToken = none
  uint32_t eos;
  uint32_t pre_tokenizer;  // PreTokenizer
  uint32_t n_tensors;
  uint64_t tables_checksum;  // XXH3-64 of the bytes from the header's end to weights_begin
  uint64_t weights_begin;    // all sections lie before it, all weights after it
  SectionRange sections[kImageSections];
  uint32_t tokenizer_flags;  // model/pre_tokenizer.h
  StoredSampling sampling;
  uint32_t n_ends;
  uint32_t ends[kEndsMax];  // the first n_ends; the rest 0
  uint8_t reserved1[84];
};
static_assert(sizeof(ImageHeader) == 512 && std::is_trivially_copyable_v<ImageHeader>);
static_assert(offsetof(ImageHeader, abi) == 8 && offsetof(ImageHeader, header_bytes) == 12);
static_assert(offsetof(ImageHeader, bytes) == 16 && offsetof(ImageHeader, header_checksum) == 40);
static_assert(offsetof(ImageHeader, config) == 64 && offsetof(ImageHeader, bos) == 192 &&
              offsetof(ImageHeader, eos) == 196);
static_assert(offsetof(ImageHeader, pre_tokenizer) == 200 &&
              offsetof(ImageHeader, n_tensors) == 204);
static_assert(offsetof(ImageHeader, tables_checksum) == 208);
static_assert(offsetof(ImageHeader, sections) == 224 && offsetof(ImageHeader, sampling) == 372);
static_assert(offsetof(ImageHeader, tokenizer_flags) == 368);
static_assert(offsetof(ImageHeader, n_ends) == 392);

enum class TensorRole : uint16_t {  // stored: never renumber
  embedding = 1,
  head = 2,
  output_norm = 3,
  attn_norm = 4,
  wq = 5,
  wk = 6,
  wv = 7,
  wo = 8,
  ffn_norm = 9,
  w_gate = 10,
  w_up = 11,
  w_down = 12,
  q_bias = 13,
  k_bias = 14,
  v_bias = 15,
  q_norm = 16,
  k_norm = 17,
  attn_post_norm = 18,
  ffn_post_norm = 19,
};

struct TensorEntry {
  uint16_t role;   // TensorRole
  uint16_t layer;  // kNoLayer where there is none
  uint32_t type;   // WeightType
  uint32_t n_rows;
  uint32_t n_cols;
  uint32_t block;
  uint32_t has_min;
  SectionRange values;
  SectionRange scales;  // {0, 0} where there are none
  uint64_t reserved;
};
static_assert(sizeof(TensorEntry) == 64 && std::is_trivially_copyable_v<TensorEntry>);
static_assert(offsetof(TensorEntry, type) == 4 && offsetof(TensorEntry, block) == 16);
static_assert(offsetof(TensorEntry, values) == 24 && offsetof(TensorEntry, scales) == 40);

}  // namespace polykv
