// A version of a pool: an immutable, ordered list of spans, in sealed memory of its own.
// Bytes: ManifestHeader, then n_spans times ManifestSpan (docs/format.md).
#pragma once

#include <type_traits>
#include <vector>

#include "ipc/checksum.h"
#include "ipc/memory.h"

namespace polykv {

inline constexpr uint64_t kManifestMagic = 0x00004e414d564b50;  // "PKVMAN" and two zero bytes
inline constexpr uint32_t kManifestAbi = 1;
inline constexpr uint32_t kSpansMax = 200;  // one fd each in a single packet

struct ManifestHeader {
  uint64_t magic;
  uint32_t abi;
  uint32_t n_spans;
  uint64_t version;   // 1, 2, … within a pool
  uint8_t model[16];  // fingerprint
  uint64_t n_tokens;  // of all spans
  uint64_t checksum;  // XXH3-64 of the whole manifest with this field zero
};
static_assert(sizeof(ManifestHeader) == 56 && std::is_trivially_copyable_v<ManifestHeader>);

struct ManifestSpan {
  uint8_t segment[16];   // XXH3-128 of the segment's header: its identity
  uint32_t token_begin;  // within the segment
  uint32_t token_end;
  int64_t position_offset;  // absolute position = local position + this
  uint64_t segment_bytes;   // size of the segment's memory
};
static_assert(sizeof(ManifestSpan) == 40 && std::is_trivially_copyable_v<ManifestSpan>);

struct Manifest {
  uint64_t version = 0;
  Fingerprint model{};
  std::vector<ManifestSpan> spans;  // in order of position

  uint64_t n_tokens() const;
  uint64_t segment_bytes() const;
};

// Both refuse a manifest without spans and one with more than kSpansMax.
Result<UniqueFd> seal_manifest(const Manifest& manifest, const MemoryRoom& room);
// Validates seals, size, magic, ABI, checksum and that spans follow each other without overlap.
Result<Manifest> read_manifest(UniqueFd fd);

}  // namespace polykv
