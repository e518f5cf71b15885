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

// An answer that a lane of an agent may still hand over as a segment.
struct HeldTurn {
  Asker asker;
  uint64_t key = 0;  // of the start that it answered
  std::string pool;
  std::weak_ptr<Version> version;
  uint32_t n_tokens = 0;  // prompt and answer, without the end of the message
};

// What one lane of an agent is at.
struct LaneTask {
  uint64_t key = 0;   // the id that the agent was told it under
  WorkRef work = {};  // what for, if it is a generation,
  size_t member = 0;  // and which of its members;
  bool preparing = false;
  uint64_t turn = 0;   // or else the turn that it encodes: the key of its start
  uint64_t order = 0;  // counts up with all that the agent was told to hold
};

struct AgentRecord {
  enum class State { starting, up, ended };
  std::string name;
  Child child;  // empty for an agent that was started by hand
  pid_t pid = 0;
  std::string routing;  // ZeroMQ routing id, once it said hello
  State state = State::starting;
  size_t lanes = 1;      // how many tasks it takes at once
  unsigned threads = 0;  // 0 = unknown
  std::string model;
  std::string home;  // the pool that it was started for
  std::string pool;  // and the one that it holds for its next answer
  uint64_t version = 0;
  double attach_ms = 0;
  std::string kernel;
  uint64_t tokens = 0;      // generated so far
  double tokens_per_s = 0;  // of the last answer
  int restarts = 0;
  bool stopping = false;  // told to stop: its end is no fault
  std::string last_error;
  uint64_t last_used = 0;  // counts up: the agent with the smallest has rested, or ended, longest
  std::vector<LaneTask> tasks;
  std::vector<HeldTurn> turns;  // oldest first; a hint: which lane a start takes the agent decides
  uint64_t last_order = 0;      // how often it was told to hold something,
  std::string told_pool;        // and what at last: it has, or will have, a lease on it
  uint64_t told_version = 0;
  uint64_t held_order = 0;  // which of them pool and version are from

  const char* state_name() const;
  size_t free_lanes() const;
  LaneTask* find_task(const std::string& key);
  // Nobody may begin on another version here before a group that prepares has begun on its own.
  bool may_hold(const Version* wanted) const;
  // It is about to be sent this prepare or start; returns the order's number.
  uint64_t told(const Message& order);
  // It has said that it holds this, told by the order of that number.
  void holds(uint64_t order, const Message& message);
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

  size_t lanes_of(const std::string& model) const;  // of all alive

  // Who has a free lane, the one that has rested longest first: so that what the others keep of
  // their last answers stays for those who go on with them.
  std::vector<AgentRecord*> with_free_lanes();
  // One lane less is free; the agent counts as used now.
  LaneTask& take(AgentRecord& agent, LaneTask task);
  void set_ended(AgentRecord& agent);
  // Forgets those that ended but the last kEndedKept. Records of agents that run stay in place.
  void forget_ended();
  uint64_t new_key() { return next_key_++; }  // for whatever an agent is asked under

  // The agent has finished this request: a turn of it, as long as it has a lane for it.
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
