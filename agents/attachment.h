// Attaching to a pool: a lease from the supervisor, and one version of the pool as this agent reads
// it.
//
//   request_lease ─► Grant {connection, fds} ─► open_layout ─► Layout {spans in order of position}
//
// The connection is the lease: it lives as long as this process holds it. Nothing that arrives is
// trusted: seals, sizes, headers, identities and the model's fingerprint are checked before use.
#pragma once

#include <string>
#include <vector>

#include "ipc/fd_socket.h"
#include "ipc/manifest.h"
#include "ipc/segment.h"

namespace polykv {

struct AttachOptions {
  std::string runtime;  // the supervisor's runtime directory
  std::string agent;    // this agent's name
  std::string pool;
  uint64_t version = 0;     // 0 = the current one
  std::string fingerprint;  // refuse a pool of another model; empty = any
};

struct Grant {
  FdSocket lease;
  std::string pool;
  uint64_t version = 0;
  UniqueFd image;
  UniqueFd manifest;
  std::vector<UniqueFd> segments;  // in the manifest's order
};

Result<Grant> request_lease(const AttachOptions& options);

// A run of a segment's tokens at a place in the context.
struct Span {
  SegmentView segment;
  uint32_t token_begin = 0;  // within the segment
  uint32_t token_end = 0;
  int64_t position_offset = 0;  // absolute position = local position + this
};

struct Layout {
  uint64_t version = 0;
  uint32_t n_tokens = 0;  // the first free position
  std::vector<Span> spans;
};

// fingerprint_mismatch or bad_segment if anything does not belong to `model` and `shape`.
Result<Layout> open_layout(UniqueFd manifest, std::vector<UniqueFd> segments,
                           const Fingerprint& model, const KvShape& shape, Verify verify);

}  // namespace polykv
