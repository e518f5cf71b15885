// Agents as the supervisor sees them: who is there and what each does.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "ipc/message.h"
#include "ipc/process.h"
#include "launch/work.h"

namespace polykv {

// The last answer of an agent, as long as the agent can still hand it over as a segment.
struct HeldTurn {
  Asker asker;
  uint64_t key = 0;  // of the start that it answered; 0 = there is none
  std::string pool;
  std::weak_ptr<Version> version;
  uint32_t n_tokens = 0;  // prompt and answer, without the end of the message
};

struct AgentRecord {
  enum class State { starting, idle, preparing, busy, encoding, ended };
  std::string name;
  Child child;  // empty for an agent that was started by hand
  pid_t pid = 0;
  std::string routing;  // ZeroMQ routing id, once it said hello
  State state = State::starting;
  std::string model;
  std::string home;  // the pool that it was started for
  std::string pool;  // and the one that it holds
  uint64_t version = 0;
  double attach_ms = 0;
  std::string kernel;
  uint64_t tokens = 0;      // generated so far
  double tokens_per_s = 0;  // of the last answer
  int restarts = 0;
  bool stopping = false;  // told to stop: its end is no fault
  std::string last_error;
  uint64_t last_used = 0;  // counts up: the agent with the smallest has rested, or ended, longest
  WorkRef work;            // preparing, busy: what for
  size_t member = 0;       // and which of its members
  uint64_t encoding = 0;   // encoding: the id that it was told to encode under
  HeldTurn turn;

  const char* state_name() const;
};

inline constexpr size_t kEndedKept = 64;  // ended agents that a snapshot still tells of

class AgentTable {
 public:
  AgentRecord& add(const std::string& name);
  AgentRecord* find(const std::string& name);
  AgentRecord* by_routing(const std::string& routing);
  std::map<std::string, AgentRecord>& all() { return agents_; }
  const std::map<std::string, AgentRecord>& all() const { return agents_; }
  size_t alive() const;
  size_t alive_of(const std::string& model) const;
  std::string new_name();  // "a01", "a02", …

  // Who can take work, the one that has rested longest first: so that what the others keep of their
  // last answers stays for those who go on with them.
  std::vector<AgentRecord*> idle();
  // Not idle any more: counts as used now.
  void take(AgentRecord& agent, AgentRecord::State state);
  void set_ended(AgentRecord& agent);
  // Forgets those that ended but the last kEndedKept. Records of agents that run stay in place.
  void forget_ended();
  uint64_t new_key() { return next_key_++; }  // for whatever an agent is asked under

  // The agent has finished this request: its turn, as long as it has no other.
  void finished(AgentRecord& agent, const Asker& asker, HeldTurn turn);
  // Why the turn of a request that has been finished cannot be had any more; "": none is known.
  std::string why_lost(const Asker& asker);

 private:
  std::map<std::string, AgentRecord> agents_;
  int next_number_ = 1;
  uint64_t next_key_ = 1;
  uint64_t uses_ = 0;
  std::deque<std::pair<Asker, std::string>> past_;  // finished requests and their agents
};

}  // namespace polykv
