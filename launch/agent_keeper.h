// Processes of agents: started, watched, restarted, stopped. What they compute is generations'.
#pragma once

#include <functional>
#include <list>
#include <set>
#include <string>
#include <vector>

#include "ipc/control.h"
#include "launch/agent_table.h"
#include "launch/deadlines.h"
#include "launch/model_slot.h"
#include "launch/replies.h"
#include "launch/supervisor_options.h"

namespace polykv {

// An agents_start on its way: answered when every new agent has said hello or ended.
struct PendingStart {
  Asker asker;
  std::set<std::string> names;  // not heard of yet
  std::vector<std::string> started;
  int64_t all = 0;
  Deadlines::Timer deadline = 0;
  Error first_failure;
  bool failed = false;
};

// Told to whoever keeps the generations.
struct AgentEvents {
  std::function<void(AgentRecord&, const Error&)> lost;        // what it ran has failed
  std::function<void(const AgentRecord&, const Error&)> gone;  // and it is not started again
};

// A core belongs to one agent as long as there are enough; at least 1.
unsigned threads_of_each(unsigned cores, size_t agents);

class AgentKeeper {
 public:
  AgentKeeper(const SupervisorOptions& options, std::string runtime, Models& models,
              ControlServer& control, Replies& replies, Deadlines& deadlines)
      : options_(options),
        runtime_(std::move(runtime)),
        models_(models),
        control_(control),
        replies_(replies),
        deadlines_(deadlines) {}

  void on_events(AgentEvents events) { events_ = std::move(events); }
  AgentTable& table() { return agents_; }
  const std::vector<std::string>& fallbacks() const { return fallbacks_; }

  void start(const Asker& asker, const Message& message);  // agents_start
  void stop(const Asker& asker, const Message& message);   // agents_stop
  // Ends the client's agents_start of this id, and the agents that it has started.
  void cancel(const std::string& client, const std::string& request);
  // pid: as the kernel says it here of the agent's lease, whatever its own namespace calls it.
  void hello(const std::string& routing, const Message& message, pid_t pid);
  // The agent's process or, if it was started by hand, its lease ended.
  void ended(AgentRecord& agent, const std::string& how);
  void lease_ended(const std::string& name);

  // Is an agent on its way to this pool that has no lease on it yet?
  bool starts_on(const std::string& model, const std::string& pool) const;
  void add_watches(std::vector<int>& fds) const;  // readable: reap
  void reap();
  void shut_down();  // ends every child; a process that does not listen is killed

 private:
  Status check_start(int64_t count) const;
  void start_agents(const PendingStart& wanted, const ModelSlot& model, const std::string& pool,
                    uint64_t version);
  unsigned threads_for(size_t count);
  Status spawn(AgentRecord& agent);
  bool is_taken(const AgentRecord& agent, const std::string& routing) const;
  void announce(const AgentRecord& agent, Message event);
  void give_up(const Asker& asker, const Error& error);
  void stop_agent(AgentRecord& agent);
  void settle_start(const std::string& agent, const Error* failure);

  const SupervisorOptions& options_;
  std::string runtime_;
  Models& models_;
  ControlServer& control_;
  Replies& replies_;
  Deadlines& deadlines_;
  AgentEvents events_;
  AgentTable agents_;
  std::list<PendingStart> starts_;
  std::vector<std::string> fallbacks_;
  size_t started_ = 0;  // ever, by agents_start
};

}  // namespace polykv
