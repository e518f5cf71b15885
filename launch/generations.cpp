// From a request to its last answer.
#include "launch/generations.h"

#include <algorithm>

#include "ipc/log.h"

namespace polykv {
namespace {

using Phase = Work::Phase;

Message told_by(const Error& error, const AgentRecord& agent) {
  Message message = error_message(error);
  return message.set("agent", agent.name).set("pid", agent.pid);
}

}  // namespace

void Generations::generate(const Asker& asker, const Message& message) {
  auto made = work_of(models_, agents_, asker, message);
  if (!made) return replies_.refuse(asker, made.error());
  const WorkRef work = std::move(*made);
  work->deadline = deadlines_.after(work->deadline_seconds, [this, work] { expire(work); });
  works_.push_back(work);
  line_.add(work);
  dispatch();
}

void Generations::dispatch() {
  look_for_versions();
  while (auto match = line_.next(agents_)) begin(match->work, match->agents);
}

void Generations::look_for_versions() {
  const std::deque<WorkRef> waiting = line_.waiting();
  for (const WorkRef& work : waiting) {
    if (work->version) continue;
    if (auto found = find_version(models_, *work); !found) {
      refuse(work, error_message(found.error()));
    }
  }
}

void Generations::begin(const WorkRef& work, const std::vector<AgentRecord*>& agents) {
  work->phase = work->group ? Phase::preparing : Phase::running;
  for (size_t i = 0; i < agents.size(); ++i) {
    AgentRecord& agent = *agents[i];
    Member& member = work->members[i];
    member.agent = agent.name;
    member.start.set("version", work->version->number);  // a start names its version
    LaneTask& task = agents_.take(
        agent, {.key = member.key, .work = work, .member = i, .preparing = work->group});
    if (!work->group) {
      start_member(agent, task);
      continue;
    }
    Message prepare("prepare");
    prepare.set("id", cat(member.key)).set("pool", work->pool);
    task.order = agent.told(prepare.set("version", work->version->number));
    (void)control_.send(agent.routing, prepare);  // one that died meanwhile is reaped
  }
}

void Generations::start_member(AgentRecord& agent, LaneTask& task) {
  task.preparing = false;
  const Message& start = task.work->members[task.member].start;
  task.order = agent.told(start);
  // Which lane it takes the agent knows; a commit of a turn that is gone is refused by it.
  const auto runs = [](const LaneTask& one) { return one.work != nullptr; };
  const auto running = static_cast<size_t>(std::ranges::count_if(agent.tasks, runs));
  if (running >= agent.lanes) agent.turns.clear();
  (void)control_.send(agent.routing, start);
}

void Generations::prepared(AgentRecord& agent, LaneTask& task, const Message& message) {
  Work& work = *task.work;
  agent.holds(task.order, message);
  if (work.phase != Phase::preparing) return free_lane(agent, task.key);  // it failed meanwhile
  work.members[task.member].prepared = true;
  if (std::ranges::all_of(work.members, &Member::prepared)) start(work);
}

// Every agent of the group holds the version: they start, all of them.
void Generations::start(Work& work) {
  work.phase = Phase::running;
  std::vector<std::string> names;
  for (const Member& member : work.members) names.push_back(member.agent);
  Message started("group_started");
  started.set("model", work.model).set("pool", work.pool).set("version", work.version->number);
  (void)replies_.part(work.asker, started.set("agents", names));
  for (const auto& [agent, task] : tasks_of(work)) start_member(*agent, *task);
}

void Generations::agent_message(AgentRecord& agent, const Message& message) {
  const std::string type = message.type();
  LaneTask* task = agent.find_task(message.text("id"));
  // One that was sent home; what it was told since is newer.
  if (task == nullptr && type == "prepared") return agent.holds(agent.last_order, message);
  if (task == nullptr || !task->work) return;
  if (type == "token") token(*task, message);
  if (type == "prepared" && task->preparing) prepared(agent, *task, message);
  if (type == "done" && !task->preparing) done(agent, *task, message);
  if (type == "error") failed(agent, *task, message);
  dispatch();
}

void Generations::token(const LaneTask& task, const Message& message) {
  const WorkRef work = task.work;
  if (work->members[task.member].answered) return;
  Message part = message;
  part.set("id", work->asker.request).set("pool", work->pool);
  if (work->group) part.set("member", task.member);
  const bool heard = replies_.part(work->asker, part);
  replies_.announce("token", part);
  if (!heard) stop(work, {ErrorCode::cancelled, "the client is gone", {}, {}});
}

void Generations::done(AgentRecord& agent, const LaneTask& task, Message answer) {
  const WorkRef work = task.work;
  const size_t member = task.member;
  agent.tokens += static_cast<uint64_t>(answer.integer("tokens"));
  agent.tokens_per_s = answer.number("tokens_per_s");
  agent.holds(task.order, answer);
  const bool whole = !work->group && !work->members[member].answered;
  if (whole) {
    const int64_t n_tokens = answer.integer("prompt_tokens") + answer.integer("tokens");
    agents_.finished(agent, work->asker,
                     {work->asker, work->members[member].key, work->pool, work->version,
                      static_cast<uint32_t>(n_tokens)});
  }
  answer.set("model", work->model).set("pid", agent.pid).set("attach_ms", agent.attach_ms);
  log_line(LogLevel::info,
           cat("answered: ", answer.integer("tokens"), " tokens, ", answer.text("reason")),
           {{"request", work->asker.request},
            {"client", work->asker.client},
            {"agent", agent.name},
            {"model", work->model},
            {"pool", work->pool},
            {"version", cat(answer.integer("version"))}});
  free_lane(agent, task.key);
  this->answer(work, member, std::move(answer));
}

void Generations::failed(AgentRecord& agent, const LaneTask& task, const Message& answer) {
  const WorkRef work = task.work;
  const size_t member = task.member;
  agent.last_error = answer.text("message");
  Message error = answer;
  error.set("agent", agent.name).set("pid", agent.pid);
  free_lane(agent, task.key);
  if (work->phase == Phase::preparing) return refuse(work, error);
  this->answer(work, member, std::move(error));
}

void Generations::free_lane(AgentRecord& agent, uint64_t key) {
  std::erase_if(agent.tasks, [&](const LaneTask& task) { return task.key == key; });
  leave_dropped(agent);
}

// A lease that no lane works on would keep a dropped pool's memory: another is taken, if there is
// one.
void Generations::leave_dropped(AgentRecord& agent) {
  const auto keeps = [&](const LaneTask& task) {
    return !task.work || task.preparing || task.work->pool == agent.pool;
  };
  auto model = models_.find(agent.model);
  if (!model || agent.state != AgentRecord::State::up) return;
  if (std::ranges::any_of(agent.tasks, keeps)) return;
  const Registry& registry = (*model)->registry;
  if (registry.version(agent.pool, agent.version) || registry.pools().empty()) return;
  const bool at_home = registry.find(agent.home) != nullptr;
  const std::string pool = at_home ? agent.home : registry.pools().begin()->first;
  Message prepare("prepare");
  prepare.set("id", "home").set("pool", pool);
  (void)agent.told(prepare.set("version", registry.find(pool)->current->number));
  (void)control_.send(agent.routing, prepare);
}

void Generations::pools_changed() {
  for (auto& [name, agent] : agents_.all()) leave_dropped(agent);
}

// The end of one member; of the last one, the end of all.
void Generations::answer(const WorkRef& work, size_t member, Message message) {
  if (work->phase != Phase::running || work->members[member].answered) return;
  work->members[member].answered = true;
  work->failed += message.type() == "error" ? 1 : 0;
  if (!work->group) {
    replies_.reply(work->asker, std::move(message));
    return end(work);
  }
  (void)replies_.part(work->asker, message.set("member", member));
  if (!std::ranges::all_of(work->members, &Member::answered)) return;
  Message over("group_done");
  over.set("model", work->model).set("pool", work->pool).set("version", work->version->number);
  over.set("finished", work->members.size() - work->failed).set("failed", work->failed);
  replies_.reply(work->asker, over);
  end(work);
}

void Generations::refuse(const WorkRef& work, Message error) {
  replies_.reply(work->asker, std::move(error));
  std::vector<std::pair<AgentRecord*, uint64_t>> ready;
  for (const auto& [agent, task] : tasks_of(*work)) {
    // One that still takes its lease is free once it says so.
    if (work->members[task->member].prepared) ready.emplace_back(agent, task->key);
  }
  for (const auto& [agent, key] : ready) free_lane(*agent, key);
  end(work);
}

void Generations::end(const WorkRef& work) {
  work->phase = Phase::over;
  work->version.reset();
  deadlines_.cancel(work->deadline);
  line_.remove(*work);
  std::erase(works_, work);
}

std::vector<std::pair<AgentRecord*, LaneTask*>> Generations::tasks_of(const Work& work) {
  std::vector<std::pair<AgentRecord*, LaneTask*>> tasks;
  for (auto& [name, agent] : agents_.all()) {
    for (LaneTask& task : agent.tasks) {
      if (task.work.get() == &work) tasks.emplace_back(&agent, &task);
    }
  }
  return tasks;
}

WorkRef Generations::find(const Asker& asker) const {
  const auto found = std::ranges::find(works_, asker, &Work::asker);
  return found == works_.end() ? nullptr : *found;
}

void Generations::cancel(const std::string& client, const std::string& request) {
  const WorkRef work = find({.client = client, .link = 0, .request = request});
  if (work) stop(work, {ErrorCode::cancelled, "cancelled before it started", {}, {}});
}

bool Generations::await(const std::string& model, const std::string& pool) const {
  return std::ranges::any_of(
      works_, [&](const WorkRef& work) { return work->model == model && work->pool == pool; });
}

void Generations::client_gone(const std::string& client) {
  const std::vector<WorkRef> works = works_;
  for (const WorkRef& work : works) {
    if (work->asker.client != client) continue;
    stop(work, {ErrorCode::cancelled, "the client is gone", {}, {}});
  }
}

// What runs is told to stop and answers for itself; what does not run yet never will.
void Generations::stop(const WorkRef& work, const Error& error) {
  if (work->phase != Phase::running) return refuse(work, error_message(error));
  for (const auto& [agent, task] : tasks_of(*work)) cancel_at(*agent, *task);
}

void Generations::cancel_at(const AgentRecord& agent, const LaneTask& task) {
  Message cancel("cancel");
  cancel.set("request", cat(task.key));
  (void)control_.send(agent.routing, cancel);
}

// The client is told at once; a lane that does not stop stays taken, and its agent's status says
// why.
void Generations::expire(const WorkRef& work) {
  const Error error = deadline_over(work->deadline_seconds, ": " + why_late(*work));
  if (work->phase != Phase::running) return refuse(work, error_message(error));
  for (const auto& [agent, task] : tasks_of(*work)) {
    cancel_at(*agent, *task);
    agent->last_error = cat("told to stop at the deadline of ", work->deadline_seconds, " s");
    answer(work, task->member, told_by(error, *agent));
  }
}

std::string Generations::why_late(const Work& work) {
  if (work.phase == Phase::waiting && !work.version) {
    return cat("pool '", work.pool, "' did not come to version ", work.at_least);
  }
  if (work.phase == Phase::waiting) {
    return cat("it waited for ", work.members.size(),
               " idle agent(s), or lanes of them, of model '", work.model, "'");
  }
  std::string names;
  for (const Member& member : work.members) {
    const bool open = work.phase == Phase::preparing ? !member.prepared : !member.answered;
    if (open) names += (names.empty() ? "" : ", ") + member.agent;
  }
  return cat(work.phase == Phase::preparing ? "not yet ready to start: " : "still at work: ",
             names);
}

void Generations::agent_lost(AgentRecord& agent, const Error& error) {
  agent.turns.clear();
  const std::vector<LaneTask> tasks = agent.tasks;
  std::erase_if(agent.tasks, [](const LaneTask& task) { return task.work != nullptr; });
  for (const LaneTask& task : tasks) {
    if (!task.work) continue;
    if (task.work->phase == Phase::preparing) {
      refuse(task.work, told_by(error, agent));
    } else {
      answer(task.work, task.member, told_by(error, agent));
    }
  }
}

void Generations::agent_gone(const AgentRecord& agent, const Error& error) {
  const std::deque<WorkRef> waiting = line_.waiting();
  for (const WorkRef& work : waiting) {
    const bool named = std::ranges::count(work->members, agent.name, &Member::agent) > 0;
    const Status enough = check_enough(agents_, *work);
    if (named || !enough) refuse(work, told_by(named ? error : enough.error(), agent));
  }
}

}  // namespace polykv
