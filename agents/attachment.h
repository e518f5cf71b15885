// Attaching to a pool: request_lease ─► Grant {connection, fds} ─► open_layout (ipc/pool.h).
// The connection is the lease: it lives as long as this process holds it.
#pragma once

#include <string>
#include <vector>

#include "ipc/fd_socket.h"

namespace polykv {

struct AttachOptions {
  std::string runtime;  // the supervisor's runtime directory
  std::string agent;    // this agent's name
  std::string model;    // name in the runtime; empty = its first one
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
