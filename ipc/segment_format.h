// The bytes of a segment's header and plane table: all that the encoding and the reading side
// share. Raise kSegmentAbi when a field's width, order or meaning changes (docs/format.md,
// "Versions").
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "ipc/kv_shape.h"

namespace polykv {

inline constexpr uint64_t kSegmentMagic =
    0x0000474553564b50;  // "PKVSEG" and two zero bytes, little-endian
inline constexpr uint32_t kSegmentAbi = 3;
inline constexpr uint64_t kAlign = 64;  // bytes

enum class EncodeMode : uint32_t { alone = 0, after_prefix = 1 };      // stored: never renumber
enum class Provenance : uint32_t { prefill = 0, committed_turn = 1 };  // stored: never renumber

struct SegmentHeader {
  uint64_t magic;
  uint32_t abi;
  uint32_t header_bytes;  // sizeof(SegmentHeader)
  uint64_t bytes;         // whole segment = size of its memory
  uint8_t model[16];      // fingerprint: weights, config, RoPE, tokenizer
  uint8_t prefix[16];     // chain hash of the tokens before, if encode_mode is after_prefix
  uint32_t encode_mode;   // EncodeMode
  uint32_t provenance;    // Provenance
  uint32_t n_tokens;
  uint32_t n_layers;
  uint32_t n_kv_heads;
  uint32_t head_dim;
  uint32_t n_sinks;   // leading tokens that are exact rows in rotated planes
  uint32_t n_planes;  // entries in the table, which follows the header
  uint16_t k_codec;   // PlaneCodec of all K planes unless an entry says otherwise
  uint16_t v_codec;
  uint32_t reserved0;
  uint64_t sign_seed;    // kSignSeed
  LayerWindows windows;  // which layers keep only their last rows
  uint8_t reserved1[128];
  uint64_t table_checksum;   // XXH3-64 of the plane table
  uint64_t header_checksum;  // XXH3-64 of the 248 bytes before it
};
static_assert(sizeof(SegmentHeader) == 256 && std::is_trivially_copyable_v<SegmentHeader>);
static_assert(offsetof(SegmentHeader, bytes) == 16);
static_assert(offsetof(SegmentHeader, model) == 24);
static_assert(offsetof(SegmentHeader, prefix) == 40);
static_assert(offsetof(SegmentHeader, encode_mode) == 56);
static_assert(offsetof(SegmentHeader, provenance) == 60);
static_assert(offsetof(SegmentHeader, n_tokens) == 64);
static_assert(offsetof(SegmentHeader, n_layers) == 68);
static_assert(offsetof(SegmentHeader, n_kv_heads) == 72);
static_assert(offsetof(SegmentHeader, head_dim) == 76);
static_assert(offsetof(SegmentHeader, n_sinks) == 80);
static_assert(offsetof(SegmentHeader, n_planes) == 84);
static_assert(offsetof(SegmentHeader, k_codec) == 88);
static_assert(offsetof(SegmentHeader, sign_seed) == 96);
static_assert(offsetof(SegmentHeader, windows) == 104);
static_assert(offsetof(SegmentHeader, table_checksum) == 240);
static_assert(offsetof(SegmentHeader, header_checksum) == 248);

struct PlaneEntry {
  uint16_t kind;       // PlaneKind
  uint16_t codec;      // PlaneCodec; 0 for tokens
  uint16_t layer;      // 0xffff for tokens
  uint16_t head;       // 0xffff for tokens
  uint32_t n_rows;     // the last tokens of the segment: row r is token n_tokens - n_rows + r
  uint32_t n_sinks;    // of its rows, exact
  uint64_t offset;     // from the segment's start, multiple of 64
  uint64_t bytes;      // without the padding to the next plane
  uint64_t checksum;   // XXH3-64 of the plane's bytes
  uint64_t positions;  // offset of a position list, 0 = every token in order (others: later)
  float scale_max;     // rot<b>: scale of u8 255; paper_k8: the layer's scale
  uint32_t reserved0;
  uint64_t reserved1;
};
static_assert(sizeof(PlaneEntry) == 64 && std::is_trivially_copyable_v<PlaneEntry>);
static_assert(offsetof(PlaneEntry, n_rows) == 8);
static_assert(offsetof(PlaneEntry, offset) == 16);
static_assert(offsetof(PlaneEntry, bytes) == 24);
static_assert(offsetof(PlaneEntry, checksum) == 32);
static_assert(offsetof(PlaneEntry, positions) == 40);
static_assert(offsetof(PlaneEntry, scale_max) == 48);

}  // namespace polykv
