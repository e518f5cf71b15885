// Who gets the next lanes. Works are served in the order that they came, each as soon as all the
// lanes that it needs are free at once; what an earlier group can use already, a later work does
// not take. So nobody waits for ever, and two groups never hold half of what each other needs.
// Agents with few lanes taken come first, and of those the one that has rested longest.
#pragma once

#include <deque>
#include <optional>
#include <vector>

#include "launch/agent_table.h"

namespace polykv {

class WorkLine {
 public:
  struct Match {
    WorkRef work;
    std::vector<AgentRecord*> agents;  // [members]; one may come as often as it has lanes
  };

  void add(WorkRef work) { waiting_.push_back(std::move(work)); }
  void remove(const Work& work);
  const std::deque<WorkRef>& waiting() const { return waiting_; }
  // Takes the first that can begin out of the line. One without a version waits for it.
  std::optional<Match> next(AgentTable& agents);

 private:
  std::deque<WorkRef> waiting_;
};

}  // namespace polykv
