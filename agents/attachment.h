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

}  // namespace polykv
