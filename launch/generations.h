// Generations: handed to idle agents in the order that they were asked for, their tokens and
// answers handed back.
#pragma once

#include <string>

#include "ipc/control.h"
#include "launch/agent_table.h"
#include "launch/model_slot.h"
#include "launch/replies.h"

namespace polykv {

class Generations {
 public:
  Generations(Models& models, AgentTable& agents, ControlServer& control, Replies& replies)
      : models_(models), agents_(agents), control_(control), replies_(replies) {}

  void generate(const Asker& asker, const Message& message);
  // Ends the client's request of this id if it is a generation that waits or runs.
  void cancel(const std::string& client, const std::string& request);
  void dispatch();  // gives waiting generations to idle agents
  void agent_message(AgentRecord& agent, const Message& message);
  void agent_lost(AgentRecord& agent, const Error& error);        // what it ran has failed
  void agent_gone(const AgentRecord& agent, const Error& error);  // and it is not started again

 private:
  void fail_generation(const Generation& generation, const AgentRecord& agent, const Error& error);
  void cancel_at(const AgentRecord& agent);

  Models& models_;
  AgentTable& agents_;
  ControlServer& control_;
  Replies& replies_;
  uint64_t next_key_ = 1;
};

}  // namespace polykv
