// One SEQPACKET connection to the supervisor. An agent's is its lease.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "ipc/fd_socket.h"
#include "launch/registry.h"

namespace polykv {

struct Link {
  enum class Role { unknown, agent, client };
  uint64_t id = 0;
  FdSocket socket;
  Role role = Role::unknown;
  std::string agent;                // role agent: who holds the lease,
  std::string pool;                 // on which pool,
  std::shared_ptr<Version> leased;  // on which version
  std::string waiting_score;        // request id of the score that it computes,
  uint64_t scorer = 0;              // and the link of who waits for it
};

// An agents_start on its way: answered when every new agent has said hello or ended.
struct PendingStart {
  std::string client, request;
  std::set<std::string> names;  // not heard of yet
  std::vector<std::string> started;
  int64_t all = 0;
  Error first_failure;
  bool failed = false;
};

}  // namespace polykv
