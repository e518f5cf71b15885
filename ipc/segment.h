// A segment: encoded K/V of a run of tokens, all layers, immutable. Byte layout: docs/format.md.
//
//   | header 256 B | plane table, 64 B an entry | planes, each on 64 B |
//
// SegmentBuilder fills new shared memory layer by layer and seals it; SegmentView validates sealed
// memory (nothing in it is trusted before) and gives out planes. Offsets, never pointers, inside.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "ipc/checksum.h"
#include "ipc/memory.h"
#include "ipc/plane.h"
#include "ipc/segment_format.h"
#include "ipc/windows.h"

namespace polykv {

struct KvShape {
  uint32_t n_layers = 0, n_kv_heads = 0, head_dim = 0;
  LayerWindows windows{};
  bool operator==(const KvShape&) const = default;
};

struct SegmentSpec {
  KvShape shape;
  CodecSpec codec;
  Fingerprint model{};
  EncodeMode mode = EncodeMode::alone;
  Fingerprint prefix{};        // chain hash of the tokens before it, if mode is after_prefix
  bool starts_context = true;  // first segment of a context: its first tokens are sinks
  Provenance provenance = Provenance::prefill;
  std::vector<uint32_t> tokens;  // [n_tokens] ids
};

// Bytes that a segment of this spec takes, header and table included.
uint64_t segment_bytes(const SegmentSpec& spec);
// Chain hash over a prefix hash and the tokens that follow it.
Fingerprint chain_hash(const Fingerprint& prefix, std::span<const uint32_t> tokens);

// Calls piece(i) once for every i < n, on any threads; returns when all are done. Empty: in turn.
using Spread = std::function<void(uint32_t n, const std::function<void(uint32_t i)>& piece)>;

class SegmentBuilder {
 public:
  // bad_segment for a spec that no reader would accept, memory_limit if there is no room.
  static Result<SegmentBuilder> create(const SegmentSpec& spec, const MemoryRoom& room);
  // k, v: [n_tokens, n_kv_heads, head_dim] f32, K after RoPE at positions local to the segment. Of
  // a layer with a window only the rows that it keeps are read: the last windows.kept().
  // The same bytes, however the work is spread. Thread-safe for different layers.
  void put_layer(uint32_t layer, const float* k, const float* v, const Spread& spread = {});
  // Checksums, seals and returns the read-only fd. REQUIRES: every layer was put.
  Result<UniqueFd> seal() &&;

 private:
  void put_plane(uint32_t layer, PlaneKind kind, uint32_t head, const float* rows);

  SegmentHeader header_{};
  std::vector<PlaneEntry> table_;
  std::vector<uint8_t> put_;  // [n_layers] 1 once the layer is there
  std::unique_ptr<SharedBuilder> memory_;
};

enum class Verify { header, everything };  // everything: also each plane's checksum

class SegmentView {
 public:
  // Copies and validates header and table; bad_segment says what was found and what was wanted.
  static Result<SegmentView> open(UniqueFd fd, Verify verify);

  const SegmentHeader& header() const { return header_; }
  KvShape shape() const;
  CodecSpec codec() const;
  uint32_t n_tokens() const { return header_.n_tokens; }
  uint64_t bytes() const { return header_.bytes; }
  uint64_t elements() const;                 // of K and V that its planes hold
  double bits_per_element() const;           // everything in the segment / elements()
  std::span<const uint32_t> tokens() const;  // [n_tokens], in the mapping
  // Token of row 0 in that layer's planes: not 0 where a window lets it keep only the last ones.
  uint32_t first_token(uint32_t layer) const;
  const PlaneView& k(uint32_t layer, uint32_t head) const;
  const PlaneView& v(uint32_t layer, uint32_t head) const;
  const SharedView& memory() const { return *memory_; }

 private:
  SegmentHeader header_{};
  std::vector<PlaneView> planes_;  // [n_layers, n_kv_heads, {k, v}]
  const uint32_t* tokens_ = nullptr;
  std::shared_ptr<SharedView> memory_;
};

}  // namespace polykv
