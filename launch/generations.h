// Generations, alone and in groups: handed to free lanes of agents in the order that they were
// asked for, their tokens and answers handed back.
//
//   waiting ──► (group: preparing, until every agent holds the version) ──► running ──► over
#pragma once

#include <string>
#include <vector>

#include "ipc/control.h"
#include "launch/work_line.h"
#include "launch/work_request.h"

namespace polykv {

class Generations {
 public:
  Generations(Models& models, AgentTable& agents, ControlServer& control, Replies& replies,
              Deadlines& deadlines)
      : models_(models),
        agents_(agents),
        control_(control),
        replies_(replies),
        deadlines_(deadlines) {}

  void generate(const Asker& asker, const Message& message);  // or group_generate
  // Ends the client's request of this id if it is a generation that waits or runs.
  void cancel(const std::string& client, const std::string& request);
  // Is there one on this pool that is not over?
  bool await(const std::string& model, const std::string& pool) const;
  void client_gone(const std::string& client);  // nobody waits for its answers any more
  void dispatch();  // gives waiting generations to free lanes; cheap when there is nothing to do

  void agent_message(AgentRecord& agent, const Message& message);
  void pools_changed();  // idle agents let go of those that were dropped
  void agent_lost(AgentRecord& agent, const Error& error);        // what it ran has failed
  void agent_gone(const AgentRecord& agent, const Error& error);  // and it is not started again

 private:
  WorkRef find(const Asker& asker) const;
  void look_for_versions();
  void begin(const WorkRef& work, const std::vector<AgentRecord*>& agents);
  void start(Work& work);
  void start_member(AgentRecord& agent, LaneTask& task);
  // These end the task: it is gone when they return, or before.
  void prepared(AgentRecord& agent, LaneTask& task, const Message& message);
  void done(AgentRecord& agent, const LaneTask& task, Message answer);
  void failed(AgentRecord& agent, const LaneTask& task, const Message& answer);
  void token(const LaneTask& task, const Message& message);
  void free_lane(AgentRecord& agent, uint64_t key);
  void leave_dropped(AgentRecord& agent);

  void stop(const WorkRef& work, const Error& error);  // cancelled, or past its deadline
  void expire(const WorkRef& work);
  void cancel_at(const AgentRecord& agent, const LaneTask& task);
  void answer(const WorkRef& work, size_t member, Message message);
  void refuse(const WorkRef& work, Message error);  // the one answer to all of it
  void end(const WorkRef& work);
  std::vector<std::pair<AgentRecord*, LaneTask*>> tasks_of(const Work& work);
  std::string why_late(const Work& work);

  Models& models_;
  AgentTable& agents_;
  ControlServer& control_;
  Replies& replies_;
  Deadlines& deadlines_;
  WorkLine line_;
  std::vector<WorkRef> works_;  // all that are not over
};

}  // namespace polykv
