// Matching members with free lanes.
#include "launch/work_line.h"

#include <algorithm>

namespace polykv {
namespace {

// An agent and how many of its lanes are taken, counting those that this round gives away.
struct Candidate {
  AgentRecord* agent;
  size_t taken;
};
using Candidates = std::vector<Candidate>;

// A lane of the first agent that fits among those with the fewest lanes taken.
template <class Fits>
AgentRecord* take_lane(Candidates& candidates, const Fits& fits) {
  Candidate* best = nullptr;
  for (Candidate& one : candidates) {
    if (one.taken >= one.agent->lanes || !fits(*one.agent)) continue;
    if (best == nullptr || one.taken < best->taken) best = &one;
  }
  if (best == nullptr) return nullptr;
  ++best->taken;
  return best->agent;
}

// An agent for each member, nullptr where none has a lane; those lanes count as taken.
std::vector<AgentRecord*> choose(const Work& work, Candidates& candidates) {
  std::vector<AgentRecord*> chosen(work.members.size());
  for (const bool named : {true, false}) {  // first those that want a certain one
    for (size_t i = 0; i < chosen.size(); ++i) {
      const std::string& wanted = work.members[i].agent;
      if (wanted.empty() == named) continue;
      chosen[i] = take_lane(candidates, [&](const AgentRecord& agent) {
        const bool fits = named ? agent.name == wanted : agent.model == work.model;
        return fits && agent.may_hold(work.version.get());
      });
    }
  }
  return chosen;
}

}  // namespace

void WorkLine::remove(const Work& work) {
  std::erase_if(waiting_, [&](const WorkRef& waiting) { return waiting.get() == &work; });
}

std::optional<WorkLine::Match> WorkLine::next(AgentTable& agents) {
  Candidates candidates;
  for (AgentRecord* agent : agents.with_free_lanes()) {
    candidates.push_back({agent, agent->tasks.size()});
  }
  if (candidates.empty()) return std::nullopt;
  for (auto it = waiting_.begin(); it != waiting_.end(); ++it) {
    if (!(*it)->version) continue;
    std::vector<AgentRecord*> chosen = choose(**it, candidates);
    if (std::ranges::count(chosen, nullptr) > 0) continue;
    Match match{std::move(*it), std::move(chosen)};
    waiting_.erase(it);
    return match;
  }
  return std::nullopt;
}

}  // namespace polykv
