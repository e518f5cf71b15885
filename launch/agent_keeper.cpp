// Start, hello, end, restart of agents.
#include "launch/agent_keeper.h"

#include <algorithm>
#include <csignal>
#include <thread>

#include "ipc/log.h"

namespace polykv {
namespace {

constexpr int kAgentRestartsMax = 5;
constexpr double kStopSeconds = 5;

}  // namespace

unsigned threads_of_each(unsigned cores, size_t agents) {
  return std::max(1U, cores / static_cast<unsigned>(std::max<size_t>(1, agents)));
}

Status AgentKeeper::check_start(int64_t count) const {
  const auto alive = static_cast<int64_t>(agents_.alive());
  if (count >= 1 && alive + count <= kAgentsMax) return {};
  return fail(ErrorCode::bad_agent_count,
              cat("cannot start ", count, " agents beside ", alive, ": from 1 to ", kAgentsMax,
                  " can run in one runtime"),
              cat(count), cat(kAgentsMax));
}

void AgentKeeper::start(const Asker& asker, const Message& message) {
  PendingStart start;
  start.asker = asker;
  start.all = message.integer("count");
  if (auto good = check_start(start.all); !good) return replies_.refuse(asker, good.error());
  const std::string pool = message.text("pool");
  auto model = models_.find(message.text("model"));
  if (!model) return replies_.refuse(asker, model.error());
  auto version =
      (*model)->registry.version(pool, static_cast<uint64_t>(message.integer("version")));
  if (!version) return replies_.refuse(asker, version.error());
  const double seconds = message.number("deadline_seconds", kDeadlineSeconds);
  start.deadline = deadlines_.after(seconds, [this, asker, seconds] {
    give_up(asker, deadline_over(seconds,
                                 " and not every agent was ready: "
                                 "all that this request started are ended"));
  });
  start_agents(start, **model, pool, (*version)->number);
}

void AgentKeeper::start_agents(const PendingStart& wanted, const ModelSlot& model,
                               const std::string& pool, uint64_t version) {
  agents_.forget_ended();
  PendingStart& start = starts_.emplace_back(wanted);
  const unsigned threads = threads_for(static_cast<size_t>(start.all));
  for (int64_t i = 0; i < start.all; ++i) {
    AgentRecord& agent = agents_.add(agents_.new_name());
    agent.model = model.name;
    agent.home = agent.pool = pool;
    agent.version = version;
    agent.threads = threads;
    agent.lanes = options_.agent_lanes;
    if (auto spawned = spawn(agent); !spawned) {
      agents_.set_ended(agent);  // it never was: nobody may wait for it
      return give_up(start.asker, spawned.error());
    }
    start.names.insert(agent.name);
    start.started.push_back(agent.name);
  }
}

// The start's answer is this error, and none of its agents stays.
void AgentKeeper::give_up(const Asker& asker, const Error& error) {
  const auto found = std::ranges::find(starts_, asker, &PendingStart::asker);
  if (found == starts_.end()) return;
  const PendingStart start = std::move(*found);
  starts_.erase(found);
  deadlines_.cancel(start.deadline);
  for (const std::string& name : start.started) {
    if (AgentRecord* agent = agents_.find(name)) stop_agent(*agent);
  }
  replies_.refuse(start.asker, error);
}

void AgentKeeper::cancel(const std::string& client, const std::string& request) {
  give_up({.client = client, .link = 0, .request = request},
          {ErrorCode::cancelled, "cancelled before every agent was ready", {}, {}});
}

// Those that the beginning is still to start count already: the first shall not take all cores.
unsigned AgentKeeper::threads_for(size_t count) {
  const size_t all = agents_.alive() + count;
  started_ += count;
  const size_t to_come = options_.first_agents - std::min(options_.first_agents, started_);
  if (options_.agent_threads > 0) return options_.agent_threads;
  return threads_of_each(std::thread::hardware_concurrency(), all + to_come);
}

Status AgentKeeper::spawn(AgentRecord& agent) {
  std::vector<std::string> arguments{"--runtime",      runtime_,           "--agent",
                                     agent.name,       "--pool",           agent.pool,
                                     "--threads",      cat(agent.threads), "--lanes",
                                     cat(agent.lanes), "--started-ns",     cat(monotonic_ns())};
  if (agent.restarts == 0) {
    arguments.insert(arguments.end(), {"--pool-version", cat(agent.version)});
  }
  // Without it an agent takes the first model.
  if (agent.model != models_.all().front()->name) {
    arguments.insert(arguments.end(), {"--model", agent.model});
  }
  if (!options_.isa.empty()) arguments.insert(arguments.end(), {"--isa", options_.isa});
  auto child = Child::start(options_.agent_program, arguments);
  if (!child) return pass(child);
  agent.child = std::move(*child);
  agent.pid = agent.child.pid();
  agent.routing.clear();
  agent.state = AgentRecord::State::starting;
  return {};
}

// Two processes under one name would share its answers and its lease.
bool AgentKeeper::is_taken(const AgentRecord& agent, const std::string& routing) const {
  return agent.state == AgentRecord::State::up && agent.routing != routing;
}

void AgentKeeper::hello(const std::string& routing, const Message& message, pid_t pid) {
  const std::string name = message.text("agent");
  const Asker asker{.client = routing, .link = 0, .request = message.text("id")};
  auto model = models_.find(message.text("model"));
  if (!model) return replies_.refuse(asker, model.error());
  AgentRecord* agent = agents_.find(name);
  if (agent != nullptr && is_taken(*agent, routing)) {
    log_line(LogLevel::warning, cat("a second agent named '", name, "' was sent away"),
             {{"agent", name}});
    replies_.refuse(asker, {ErrorCode::usage,
                            cat("there is an agent '", name, "' already (pid ", agent->pid,
                                "): choose another name"),
                            name,
                            {}});
    return (void)control_.send(routing, Message("stop"));
  }
  if (agent == nullptr) {  // started by hand
    agents_.forget_ended();
    agent = &agents_.add(name);
  }
  agent->routing = routing;
  agent->pid = agent->child.pid() > 0 ? agent->child.pid() : pid;
  agent->model = (*model)->name;
  agent->pool = message.text("pool");
  if (agent->home.empty()) agent->home = agent->pool;
  agent->version = static_cast<uint64_t>(message.integer("version"));
  agent->attach_ms = message.number("attach_ms");
  agent->kernel = message.text("kernel");
  agent->lanes = static_cast<size_t>(message.integer("lanes", 1));
  agent->threads = static_cast<unsigned>(message.integer("threads", agent->threads));
  agent->state = AgentRecord::State::up;
  for (const std::string& fallback : message.texts("fallbacks")) {
    fallbacks_.push_back(cat("agent ", name, ": ", fallback));
    log_line(LogLevel::warning, fallbacks_.back(), {{"agent", name}});
  }
  announce(*agent,
           Message("agent_born").set("version", agent->version).set("restarts", agent->restarts));
  settle_start(name, nullptr);
}

void AgentKeeper::announce(const AgentRecord& agent, Message event) {
  event.set("agent", agent.name).set("pid", agent.pid);
  event.set("model", agent.model).set("pool", agent.pool);
  replies_.announce("agent", event);
}

// An agents_start's agent was heard of: hello (no failure), or its end.
void AgentKeeper::settle_start(const std::string& agent, const Error* failure) {
  for (auto it = starts_.begin(); it != starts_.end(); ++it) {
    if (it->names.erase(agent) == 0) continue;
    if (failure != nullptr && !it->failed) it->first_failure = *failure;
    it->failed = it->failed || failure != nullptr;
    Message progress("progress");
    const auto left = static_cast<int64_t>(it->names.size());
    progress.set("phase", "agents").set("done", it->all - left).set("all", it->all);
    progress.set("rate", 0.0);
    (void)replies_.part(it->asker, progress);
    if (left > 0) return;
    deadlines_.cancel(it->deadline);
    Message answer("ok");
    answer.set("agents", it->started);
    replies_.reply(it->asker, it->failed ? error_message(it->first_failure) : answer);
    starts_.erase(it);
    return;
  }
}

// An agent's process ended: its request fails by name, the others are untouched.
void AgentKeeper::ended(AgentRecord& agent, const std::string& how) {
  const std::string story = agent.stopping ? "stopped, as asked" : how;
  const bool was_starting = agent.state == AgentRecord::State::starting;
  agents_.set_ended(agent);
  agent.last_error = story;
  const Error error{ErrorCode::agent_lost,
                    cat("agent ", agent.name, " (pid ", agent.pid, ") ended: ", story),
                    story,
                    {}};
  log_line(agent.stopping ? LogLevel::info : LogLevel::warning, error.message,
           {{"agent", agent.name},
            {"model", agent.model},
            {"pool", agent.pool},
            {"version", cat(agent.version)}});
  announce(agent, Message("agent_ended").set("story", story));
  events_.lost(agent, error);
  if (was_starting) settle_start(agent.name, &error);
  const bool again = options_.restart_agents && !was_starting && !agent.stopping &&
                     agent.restarts < kAgentRestartsMax && agent.child.pid() > 0;
  if (again) {
    ++agent.restarts;
    if (spawn(agent)) return;
  }
  events_.gone(agent, error);
}

// An agent that was started by hand has no pidfd here: the end of its lease is its end.
void AgentKeeper::lease_ended(const std::string& name) {
  AgentRecord* agent = agents_.find(name);
  if (agent != nullptr && agent->child.pid() < 0) ended(*agent, "its connection ended");
}

// One that does not listen is killed after a while.
void AgentKeeper::stop_agent(AgentRecord& agent) {
  if (agent.state == AgentRecord::State::ended) return;
  agent.stopping = true;
  if (!agent.routing.empty()) (void)control_.send(agent.routing, Message("stop"));
  if (agent.child.pid() <= 0) return;
  agent.child.signal(SIGTERM);
  deadlines_.after(kStopSeconds, [this, name = agent.name, pid = agent.child.pid()] {
    AgentRecord* same = agents_.find(name);
    if (same == nullptr || same->child.pid() != pid) return;
    if (same->state != AgentRecord::State::ended) same->child.signal(SIGKILL);
  });
}

void AgentKeeper::stop(const Asker& asker, const Message& message) {
  const std::string name = message.text("agent");
  if (!name.empty() && agents_.find(name) == nullptr) {
    return replies_.refuse(asker,
                           {ErrorCode::usage, cat("there is no agent '", name, "'"), name, {}});
  }
  for (auto& [known, agent] : agents_.all()) {
    if (!name.empty() && known != name) continue;
    stop_agent(agent);
  }
  replies_.reply(asker, Message("ok"));
}

bool AgentKeeper::starts_on(const std::string& model, const std::string& pool) const {
  return std::ranges::any_of(agents_.all(), [&](const auto& item) {
    const AgentRecord& agent = item.second;
    return agent.state == AgentRecord::State::starting && agent.model == model &&
           agent.pool == pool;
  });
}

void AgentKeeper::add_watches(std::vector<int>& fds) const {
  for (const auto& [name, agent] : agents_.all()) {
    if (agent.state != AgentRecord::State::ended) fds.push_back(agent.child.pidfd());
  }
}

void AgentKeeper::reap() {
  for (auto& [name, agent] : agents_.all()) {
    if (agent.state == AgentRecord::State::ended || agent.child.pid() < 0) continue;
    if (auto exit = agent.child.try_wait()) ended(agent, describe(*exit));
  }
}

void AgentKeeper::shut_down() {
  for (auto& [name, agent] : agents_.all()) {
    if (agent.child.pid() > 0 && agent.state != AgentRecord::State::ended) {
      agent.child.signal(SIGTERM);
    }
  }
  for (auto& [name, agent] : agents_.all()) {
    if (agent.child.pid() > 0) (void)agent.child.wait(2000);
  }
  agents_.all().clear();
}

}  // namespace polykv
