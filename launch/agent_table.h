// Agents as the supervisor sees them: who is there, what each does, which requests wait.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ipc/message.h"
#include "ipc/process.h"

namespace polykv {

// A generation on its way: the client's request and where it runs.
struct Generation {
  uint64_t key = 0;     // our id, unique in this runtime
  std::string client;   // routing id of who asked
  std::string request;  // the client's request id
  Message message{"generate"};
  std::string agent;    // wanted or running there; empty = any
  std::string model{};  // an agent of this one
};

struct AgentRecord {
  enum class State { starting, idle, busy, ended };
  std::string name;
  Child child;  // empty for an agent that was started by hand
  pid_t pid = 0;
  std::string routing;  // ZeroMQ routing id, once it said hello
  State state = State::starting;
  std::string model;
  std::string pool;
  uint64_t version = 0;
  double attach_ms = 0;
  std::string kernel;
  uint64_t tokens = 0;  // generated so far
  int restarts = 0;
  bool stopping = false;  // told to stop: its end is no fault
  std::string last_error;
  std::optional<Generation> running;

  const char* state_name() const;
};

class AgentTable {
 public:
  AgentRecord& add(const std::string& name);
  AgentRecord* find(const std::string& name);
  AgentRecord* by_routing(const std::string& routing);
  AgentRecord* by_running(uint64_t key);
  std::map<std::string, AgentRecord>& all() { return agents_; }
  const std::map<std::string, AgentRecord>& all() const { return agents_; }
  size_t alive() const;
  size_t alive_of(const std::string& model) const;
  std::string new_name();  // "a01", "a02", …

  // Puts a generation in line.
  void enqueue(Generation generation) { waiting_.push_back(std::move(generation)); }
  // The next generation that an idle agent can take, with that agent.
  std::optional<std::pair<Generation, AgentRecord*>> next();
  // Takes all waiting generations that only `agent` could run ("" = all of them).
  std::vector<Generation> withdraw(const std::string& agent);
  std::vector<Generation> withdraw_of_model(const std::string& model);
  // Takes one waiting generation of a client.
  std::optional<Generation> withdraw(const std::string& client, const std::string& request);

 private:
  AgentRecord* idle_agent(const Generation& generation);
  std::vector<Generation> withdraw_if(const std::function<bool(const Generation&)>& wanted);
  std::map<std::string, AgentRecord> agents_;
  std::deque<Generation> waiting_;
  int next_number_ = 1;
};

}  // namespace polykv
