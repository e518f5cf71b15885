// Bookkeeping of agents.
#include "launch/agent_table.h"

#include <algorithm>
#include <tuple>

namespace polykv {
namespace {

constexpr size_t kPastKept = 1024;  // finished requests that a refusal can still explain

}  // namespace

const char* AgentRecord::state_name() const {
  if (state == State::starting) return "starting";
  if (state == State::ended) return "ended";
  if (tasks.empty()) return "idle";
  const auto runs = [](const LaneTask& task) { return task.work && !task.preparing; };
  if (std::ranges::any_of(tasks, runs)) return "busy";
  return std::ranges::any_of(tasks, &LaneTask::preparing) ? "preparing" : "encoding";
}

size_t AgentRecord::free_lanes() const {
  if (state != State::up || stopping) return 0;
  return lanes - std::min(lanes, tasks.size());
}

LaneTask* AgentRecord::find_task(const std::string& key) {
  const auto found =
      std::ranges::find_if(tasks, [&](const LaneTask& task) { return cat(task.key) == key; });
  return found == tasks.end() ? nullptr : &*found;
}

bool AgentRecord::may_hold(const Version* wanted) const {
  return std::ranges::none_of(tasks, [&](const LaneTask& task) {
    return task.preparing && task.work->phase == Work::Phase::preparing &&
           task.work->version.get() != wanted;
  });
}

uint64_t AgentRecord::told(const Message& order) {
  told_pool = order.text("pool");
  told_version = static_cast<uint64_t>(order.integer("version"));
  return ++last_order;
}

void AgentRecord::holds(uint64_t order, const Message& message) {
  if (order < held_order) return;  // an answer on a former version, which has let go of it
  held_order = order;
  pool = message.text("pool");
  version = static_cast<uint64_t>(message.integer("version"));
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

size_t AgentTable::lanes_of(const std::string& model) const {
  size_t lanes = 0;
  for (const auto& [name, agent] : agents_) {
    if (agent.state != AgentRecord::State::ended && agent.model == model) lanes += agent.lanes;
  }
  return lanes;
}

std::vector<AgentRecord*> AgentTable::with_free_lanes() {
  std::vector<AgentRecord*> free;
  for (auto& [name, agent] : agents_) {
    if (agent.free_lanes() > 0) free.push_back(&agent);
  }
  std::ranges::sort(
      free, {}, [](const AgentRecord* agent) { return std::tie(agent->last_used, agent->name); });
  return free;
}

LaneTask& AgentTable::take(AgentRecord& agent, LaneTask task) {
  agent.last_used = ++uses_;
  return agent.tasks.emplace_back(std::move(task));
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
  agent.turns.push_back(std::move(turn));
  if (agent.turns.size() > agent.lanes) agent.turns.erase(agent.turns.begin());
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
