// Bookkeeping of agents.
#include "launch/agent_table.h"

#include <algorithm>
#include <tuple>

namespace polykv {
namespace {

constexpr size_t kPastKept = 1024;  // finished requests that a refusal can still explain

}  // namespace

const char* AgentRecord::state_name() const {
  constexpr const char* kNames[] = {"starting", "idle", "preparing", "busy", "encoding", "ended"};
  return kNames[static_cast<int>(state)];
}

AgentRecord& AgentTable::add(const std::string& name) {
  AgentRecord& record = agents_[name];
  record.name = name;
  return record;
}

AgentRecord* AgentTable::find(const std::string& name) {
  const auto found = agents_.find(name);
  return found == agents_.end() ? nullptr : &found->second;
}

AgentRecord* AgentTable::by_routing(const std::string& routing) {
  for (auto& [name, agent] : agents_) {
    if (!agent.routing.empty() && agent.routing == routing) return &agent;
  }
  return nullptr;
}

size_t AgentTable::alive() const {
  return std::ranges::count_if(
      agents_, [](const auto& item) { return item.second.state != AgentRecord::State::ended; });
}

size_t AgentTable::alive_of(const std::string& model) const {
  return std::ranges::count_if(agents_, [&](const auto& item) {
    return item.second.state != AgentRecord::State::ended && item.second.model == model;
  });
}

std::string AgentTable::new_name() {
  const auto name = [](int number) { return cat(number < 10 ? "a0" : "a", number); };
  while (find(name(next_number_)) != nullptr) ++next_number_;
  return name(next_number_++);
}

std::vector<AgentRecord*> AgentTable::idle() {
  std::vector<AgentRecord*> idle;
  for (auto& [name, agent] : agents_) {
    if (agent.state == AgentRecord::State::idle && !agent.stopping) idle.push_back(&agent);
  }
  std::ranges::sort(
      idle, {}, [](const AgentRecord* agent) { return std::tie(agent->last_used, agent->name); });
  return idle;
}

void AgentTable::take(AgentRecord& agent, AgentRecord::State state) {
  agent.state = state;
  agent.last_used = ++uses_;
}

void AgentTable::set_ended(AgentRecord& agent) {
  agent.state = AgentRecord::State::ended;
  agent.routing.clear();
  agent.last_used = ++uses_;
}

void AgentTable::forget_ended() {
  std::vector<std::pair<uint64_t, std::string>> ended;
  for (const auto& [name, agent] : agents_) {
    if (agent.state == AgentRecord::State::ended) ended.emplace_back(agent.last_used, name);
  }
  if (ended.size() <= kEndedKept) return;
  std::ranges::sort(ended);
  ended.resize(ended.size() - kEndedKept);
  for (const auto& [when, name] : ended) agents_.erase(name);
}

void AgentTable::finished(AgentRecord& agent, const Asker& asker, HeldTurn turn) {
  agent.turn = std::move(turn);
  past_.emplace_back(asker, agent.name);
  if (past_.size() > kPastKept) past_.pop_front();
}

std::string AgentTable::why_lost(const Asker& asker) {
  using Past = std::pair<Asker, std::string>;
  const auto found = std::ranges::find(past_, asker, &Past::first);
  if (found == past_.end()) return "";
  const AgentRecord* agent = find(found->second);
  if (agent == nullptr || agent->state == AgentRecord::State::ended) {
    return cat("agent ", found->second, ", which computed it, has ended");
  }
  return cat("agent ", found->second, " has answered another request since");
}

}  // namespace polykv
