// One SEQPACKET connection to the supervisor. An agent's is its lease.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "ipc/fd_socket.h"
#include "launch/registry.h"

namespace polykv {

struct Link {
  enum class Role { unknown, agent, client };
  uint64_t id = 0;
  FdSocket socket;
  pid_t pid = 0;  // as the kernel says it here; 0 if the peer cannot be seen from here
  Role role = Role::unknown;
  std::string agent;                // role agent: who holds the lease,
  std::string model;                // of which model,
  std::string pool;                 // on which pool,
  std::shared_ptr<Version> leased;  // on which version
  std::string waiting_score;        // request id of the score that it computes,
  uint64_t scorer = 0;              // and the link of who waits for it
};

}  // namespace polykv
