// Matching members with idle agents.
#include "launch/work_line.h"

#include <algorithm>

namespace polykv {
namespace {

using Agents = std::vector<AgentRecord*>;

// Takes the first that fits.
template <class Fits>
AgentRecord* take_first(Agents& idle, const Fits& fits) {
  const auto found = std::ranges::find_if(idle, fits);
  if (found == idle.end()) return nullptr;
  AgentRecord* agent = *found;
  idle.erase(found);
  return agent;
}

// An agent for each member, nullptr where none is idle; those taken are no longer in `idle`.
Agents choose(const Work& work, Agents& idle) {
  Agents chosen(work.members.size());
  for (size_t i = 0; i < chosen.size(); ++i) {  // first those that want a certain one
    const std::string& wanted = work.members[i].agent;
    if (wanted.empty()) continue;
    chosen[i] = take_first(idle, [&](const AgentRecord* agent) { return agent->name == wanted; });
  }
  for (size_t i = 0; i < chosen.size(); ++i) {
    if (!work.members[i].agent.empty()) continue;
    chosen[i] =
        take_first(idle, [&](const AgentRecord* agent) { return agent->model == work.model; });
  }
  return chosen;
}

}  // namespace

void WorkLine::remove(const Work& work) {
  std::erase_if(waiting_, [&](const WorkRef& waiting) { return waiting.get() == &work; });
}

std::optional<WorkLine::Match> WorkLine::next(AgentTable& agents) {
  Agents idle = agents.idle();
  for (auto it = waiting_.begin(); it != waiting_.end() && !idle.empty(); ++it) {
    if (!(*it)->version) continue;
    Agents chosen = choose(**it, idle);
    if (std::ranges::count(chosen, nullptr) > 0) continue;
    Match match{std::move(*it), std::move(chosen)};
    waiting_.erase(it);
    return match;
  }
  return std::nullopt;
}

}  // namespace polykv
