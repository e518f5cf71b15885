// Start here for ipc/: what processes share. Every shared byte is immutable; what changes is told
// by message.
//
//   segment   encoded K/V of a run of tokens, all layers    ipc/segment.h, ipc/plane.h, ipc/codec.h
//   version   sealed manifest: an ordered list of spans     ipc/manifest.h
//   pool      a named sequence of versions for one model    kept by the supervisor
//   memory    sealed memfds, limits, read-only mappings     ipc/memory.h, ipc/limits.h
//   lease     an agent's hold on a version: a connection    ipc/fd_socket.h
//   control   JSON messages over ZeroMQ and the fd socket   ipc/message.h, ipc/control.h
//
// This header is the reading side's entry: fds that came with a lease ─► open_layout ─► Layout.
#pragma once

#include <vector>

#include "ipc/manifest.h"
#include "ipc/segment.h"

namespace polykv {

// A run of a segment's tokens at a place in the context.
struct Span {
  SegmentView segment;
  uint32_t token_begin = 0;  // within the segment
  uint32_t token_end = 0;
  int64_t position_offset = 0;  // absolute position = local position + this
};

// The spans that one agent attends to, in order of position.
struct Layout {
  uint64_t version = 0;
  uint32_t n_tokens = 0;  // the first free position
  std::vector<Span> spans;
};

// Nothing that arrives is trusted: seals, sizes, headers, identities and fingerprints are checked.
// segments: in the manifest's order. fingerprint_mismatch or bad_segment if anything does not
// belong to `model` and `shape`.
Result<Layout> open_layout(UniqueFd manifest, std::vector<UniqueFd> segments,
                           const Fingerprint& model, const KvShape& shape, Verify verify);

// The fingerprint of the model that made a segment.
Fingerprint segment_model(const SegmentView& segment);
// XXH3-128 of a segment's header, which holds the checksums of everything else: its identity.
Fingerprint segment_identity(const SegmentView& segment);

}  // namespace polykv
