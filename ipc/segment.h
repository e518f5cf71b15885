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

#include "ipc/key_check.h"
#include "ipc/memory.h"
#include "ipc/plane.h"
#include "ipc/segment_format.h"
#include "ipc/segment_spec.h"

namespace polykv {

// Calls piece(i) once for every i < n, on any threads; returns when all are done. Empty: in turn.
using Spread = std::function<void(uint32_t n, const std::function<void(uint32_t i)>& piece)>;

// What a builder needs to widen planes of K that its codec is too narrow for.
struct KeyWatch {
  QuerySample queries;
  // Asked before a segment takes `more` bytes than so far: its error is put_watched_layer's.
  std::function<Status(uint64_t more)> room;
};

class SegmentBuilder {
 public:
  // bad_segment for a spec that no reader would accept, memory_limit if there is no room.
  static Result<SegmentBuilder> create(const SegmentSpec& spec, const MemoryRoom& room);
  // k, v: [n_tokens, n_kv_heads, head_dim] f32, K after RoPE at positions local to the segment. Of
  // a layer with a window only the rows that it keeps are read: the last windows.kept().
  // The same bytes, however the work is spread. Thread-safe for different layers.
  void put_layer(uint32_t layer, const float* k, const float* v, const Spread& spread = {});
  // The same, but each K plane whose scores err by more than the pool's codec promises
  // (score_error_bound) takes the first wider codec that keeps it, f16 at last; the segment grows.
  // REQUIRES: no later layer has been put: what lies behind moves.
  Status put_watched_layer(uint32_t layer, const float* k, const float* v, const KeyWatch& watch,
                           const Spread& spread = {});
  KvShape shape() const;
  CodecSpec codec() const;
  uint32_t n_tokens() const { return header_.n_tokens; }
  uint64_t bytes() const { return header_.bytes; }
  uint32_t first_token(uint32_t layer) const;  // of row 0 in that layer's planes
  std::vector<WidePlane> wide_planes() const;
  // A plane as it was put; valid until a layer is put.
  PlaneView plane(uint32_t layer, PlaneKind kind, uint32_t head) const;
  // Checksums, seals and returns the read-only fd. REQUIRES: every layer was put.
  Result<UniqueFd> seal() &&;

 private:
  void put_plane(uint32_t layer, PlaneKind kind, uint32_t head, const float* rows);
  LayerRows kept_rows(uint32_t layer, const float* rows) const;
  PlaneCodec codec_for(uint32_t layer, uint32_t head, const float* k,
                       const QuerySample& queries) const;
  Status widen(uint32_t layer, const std::vector<PlaneCodec>& codecs, const KeyWatch& watch);
  uint32_t index_of(uint32_t layer, PlaneKind kind, uint32_t head) const;

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
  std::vector<WidePlane> wide_planes() const;
  const SharedView& memory() const { return *memory_; }

 private:
  SegmentHeader header_{};
  std::vector<PlaneView> planes_;  // [n_layers, n_kv_heads, {k, v}]
  const uint32_t* tokens_ = nullptr;
  std::shared_ptr<SharedView> memory_;
};

// Gives the spec's K planes at least the widths of `earlier`, a segment of the same context: keys
// are hard because of the model, not of the text.
void keep_widths(SegmentSpec& spec, const SegmentView& earlier);

}  // namespace polykv
