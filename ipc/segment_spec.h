// What a segment is to be, before a byte of it exists.
#pragma once

#include <vector>

#include "ipc/checksum.h"
#include "ipc/kv_shape.h"
#include "ipc/plane.h"
#include "ipc/segment_format.h"

namespace polykv {

struct SegmentSpec {
  KvShape shape;
  CodecSpec codec;
  Fingerprint model{};
  EncodeMode mode = EncodeMode::alone;
  Fingerprint prefix{};        // chain hash of the tokens before it, if mode is after_prefix
  bool starts_context = true;  // first segment of a context: its first tokens are sinks
  Provenance provenance = Provenance::prefill;
  std::vector<uint32_t> tokens;  // [n_tokens] ids
  // [n_layers, n_kv_heads] codecs of the K planes, each as wide as codec.k or wider; empty: that.
  std::vector<PlaneCodec> k_codecs = {};
};

// Bytes that a segment of this spec takes, header and table included, if no plane is widened.
uint64_t segment_bytes(const SegmentSpec& spec);
// Chain hash over a prefix hash and the tokens that follow it.
Fingerprint chain_hash(const Fingerprint& prefix, std::span<const uint32_t> tokens);

// A plane of K that is wider than its pool asked for.
struct WidePlane {
  uint32_t layer, head;
  PlaneCodec asked, codec;
};

}  // namespace polykv
