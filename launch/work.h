// One generate or group_generate on its way through the agents.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "launch/deadlines.h"
#include "launch/registry.h"
#include "launch/replies.h"

namespace polykv {

// One answer of a work: its only one, or that of a group's member.
struct Member {
  uint64_t key = 0;        // our id, unique in this runtime: the id of its start
  std::string agent;       // wanted, then the one that has it; empty = any
  Message start{"start"};  // all but version, until that is known
  bool prepared = false;   // its agent holds the version
  bool answered = false;   // whoever asked has its end: an agent may still be at it
};

struct Work {
  enum class Phase { waiting, preparing, running, over };
  Asker asker;
  bool group = false;
  std::string model, pool;
  uint64_t at_least = 0;             // waits until the current version has that number,
  std::shared_ptr<Version> version;  // which is then held, so that it cannot vanish before the end
  std::vector<Member> members;       // never empty
  double deadline_seconds = 0;
  Deadlines::Timer deadline = 0;
  Phase phase = Phase::waiting;
  size_t failed = 0;  // members that ended with an error
};

using WorkRef = std::shared_ptr<Work>;

}  // namespace polykv
