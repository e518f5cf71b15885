// From a request to its last answer.
#include "launch/generations.h"

#include <algorithm>

#include "ipc/log.h"

namespace polykv {
namespace {

using Phase = Work::Phase;
using State = AgentRecord::State;

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
    agent.work = work;
    agent.member = i;
    agents_.take(agent, work->group ? State::preparing : State::busy);
    if (!work->group) {
      start_member(*work, agent);
      continue;
    }
    Message prepare("prepare");
    prepare.set("id", cat(member.key)).set("pool", work->pool);
    // To an agent that died meanwhile nothing comes: it is reaped.
    (void)control_.send(agent.routing, prepare.set("version", work->version->number));
  }
}

void Generations::start_member(Work& work, AgentRecord& agent) {
  agent.state = State::busy;
  agent.turn = {};
  (void)control_.send(agent.routing, work.members[agent.member].start);
}

void Generations::moved(AgentRecord& agent, const Message& message) {
  agent.pool = message.text("pool");
  agent.version = static_cast<uint64_t>(message.integer("version"));
}

void Generations::prepared(AgentRecord& agent, const Message& message) {
  Work& work = *agent.work;
  moved(agent, message);
  if (work.phase != Phase::preparing) return free_agent(agent);  // it failed meanwhile
  work.members[agent.member].prepared = true;
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
  for (AgentRecord* agent : agents_of(work)) start_member(work, *agent);
}

void Generations::agent_message(AgentRecord& agent, const Message& message) {
  if (!agent.work && message.type() == "prepared") return moved(agent, message);
  if (!agent.work || message.text("id") != cat(agent.work->members[agent.member].key)) return;
  if (message.type() == "token") token(agent, message);
  if (message.type() == "prepared") prepared(agent, message);
  if (message.type() == "done") done(agent, message);
  if (message.type() == "error") failed(agent, message);
  dispatch();
}

void Generations::token(AgentRecord& agent, const Message& message) {
  const WorkRef work = agent.work;
  if (work->members[agent.member].answered) return;
  Message part = message;
  part.set("id", work->asker.request).set("pool", work->pool);
  if (work->group) part.set("member", agent.member);
  const bool heard = replies_.part(work->asker, part);
  replies_.announce("token", part);
  if (!heard) stop(work, {ErrorCode::cancelled, "the client is gone", {}, {}});
}

void Generations::done(AgentRecord& agent, Message answer) {
  const WorkRef work = agent.work;
  const size_t member = agent.member;
  agent.tokens += static_cast<uint64_t>(answer.integer("tokens"));
  agent.tokens_per_s = answer.number("tokens_per_s");
  agent.pool = answer.text("pool");
  agent.version = static_cast<uint64_t>(answer.integer("version"));
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
            {"pool", agent.pool},
            {"version", cat(agent.version)}});
  free_agent(agent);
  this->answer(work, member, std::move(answer));
}

void Generations::failed(AgentRecord& agent, const Message& answer) {
  const WorkRef work = agent.work;
  const size_t member = agent.member;
  agent.last_error = answer.text("message");
  Message error = answer;
  error.set("agent", agent.name).set("pid", agent.pid);
  free_agent(agent);
  if (work->phase == Phase::preparing) return refuse(work, error);
  this->answer(work, member, std::move(error));
}

void Generations::free_agent(AgentRecord& agent) {
  agent.work.reset();
  agent.state = State::idle;
  leave_dropped(agent);
}

// An idle agent's lease would keep a dropped pool's memory: it takes another, if there is one.
void Generations::leave_dropped(AgentRecord& agent) {
  auto model = models_.find(agent.model);
  if (!model || agent.state != State::idle) return;
  const Registry& registry = (*model)->registry;
  if (registry.version(agent.pool, agent.version) || registry.pools().empty()) return;
  const bool at_home = registry.find(agent.home) != nullptr;
  const std::string pool = at_home ? agent.home : registry.pools().begin()->first;
  Message prepare("prepare");
  prepare.set("id", "home").set("pool", pool);
  (void)control_.send(agent.routing, prepare.set("version", registry.find(pool)->current->number));
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
  for (AgentRecord* agent : agents_of(*work)) {
    // One that still takes its lease is free once it says so.
    if (work->members[agent->member].prepared) free_agent(*agent);
  }
  end(work);
}

void Generations::end(const WorkRef& work) {
  work->phase = Phase::over;
  work->version.reset();
  deadlines_.cancel(work->deadline);
  line_.remove(*work);
  std::erase(works_, work);
}

std::vector<AgentRecord*> Generations::agents_of(const Work& work) {
  std::vector<AgentRecord*> agents;
  for (auto& [name, agent] : agents_.all()) {
    if (agent.work.get() == &work) agents.push_back(&agent);
  }
  return agents;
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
  for (AgentRecord* agent : agents_of(*work)) cancel_at(*agent);
}

void Generations::cancel_at(AgentRecord& agent) {
  Message cancel("cancel");
  cancel.set("request", cat(agent.work->members[agent.member].key));
  (void)control_.send(agent.routing, cancel);
}

// The client is told at once; an agent that does not stop stays busy, and says why in its status.
void Generations::expire(const WorkRef& work) {
  const Error error{
      ErrorCode::timed_out,
      cat("the deadline of ", work->deadline_seconds, " s is over: ", why_late(*work)),
      cat(work->deadline_seconds),
      {}};
  if (work->phase != Phase::running) return refuse(work, error_message(error));
  for (AgentRecord* agent : agents_of(*work)) {
    cancel_at(*agent);
    agent->last_error = cat("told to stop at the deadline of ", work->deadline_seconds, " s");
    answer(work, agent->member, told_by(error, *agent));
  }
}

std::string Generations::why_late(const Work& work) {
  if (work.phase == Phase::waiting && !work.version) {
    return cat("pool '", work.pool, "' did not come to version ", work.at_least);
  }
  if (work.phase == Phase::waiting) {
    return cat("it waited for ", work.members.size(), " idle agent(s) of model '", work.model, "'");
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
  agent.turn = {};
  if (!agent.work) return;
  const WorkRef work = std::exchange(agent.work, nullptr);
  if (work->phase == Phase::preparing) return refuse(work, told_by(error, agent));
  answer(work, agent.member, told_by(error, agent));
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
