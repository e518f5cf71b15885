// Bookkeeping of agents and waiting generations.
#include "launch/agent_table.h"

#include <algorithm>

namespace polykv {

const char* AgentRecord::state_name() const {
  constexpr const char* kNames[] = {"starting", "idle", "busy", "ended"};
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

AgentRecord* AgentTable::by_running(uint64_t key) {
  for (auto& [name, agent] : agents_) {
    if (agent.running && agent.running->key == key) return &agent;
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

AgentRecord* AgentTable::idle_agent(const Generation& generation) {
  for (auto& [name, agent] : agents_) {
    const bool wanted = generation.agent.empty() || generation.agent == name;
    const bool fits = wanted && agent.model == generation.model;
    if (fits && agent.state == AgentRecord::State::idle) return &agent;
  }
  return nullptr;
}

std::optional<std::pair<Generation, AgentRecord*>> AgentTable::next() {
  for (auto it = waiting_.begin(); it != waiting_.end(); ++it) {
    AgentRecord* agent = idle_agent(*it);
    if (agent == nullptr) continue;
    Generation generation = std::move(*it);
    waiting_.erase(it);
    return std::pair(std::move(generation), agent);
  }
  return std::nullopt;
}

std::vector<Generation> AgentTable::withdraw(const std::string& agent) {
  return withdraw_if(
      [&](const Generation& waiting) { return agent.empty() || waiting.agent == agent; });
}

std::vector<Generation> AgentTable::withdraw_of_model(const std::string& model) {
  return withdraw_if([&](const Generation& waiting) { return waiting.model == model; });
}

std::vector<Generation> AgentTable::withdraw_if(
    const std::function<bool(const Generation&)>& wanted) {
  std::vector<Generation> taken;
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    if (wanted(*it)) {
      taken.push_back(std::move(*it));
      it = waiting_.erase(it);
    } else {
      ++it;
    }
  }
  return taken;
}

std::optional<Generation> AgentTable::withdraw(const std::string& client,
                                               const std::string& request) {
  const auto found = std::ranges::find_if(waiting_, [&](const Generation& waiting) {
    return waiting.client == client && waiting.request == request;
  });
  if (found == waiting_.end()) return std::nullopt;
  Generation taken = std::move(*found);
  waiting_.erase(found);
  return taken;
}

}  // namespace polykv
