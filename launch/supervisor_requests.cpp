// What comes over ZeroMQ: clients' requests and agents' answers.
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>

#include "ipc/log.h"
#include "launch/supervisor.h"

namespace polykv {
namespace {

constexpr size_t kAnswersKept = 1024;  // final answers, so that a repeated request is not run twice
constexpr int kAgentRestartsMax = 5;

std::string request_key(const std::string& client, const std::string& request) {
  return client + '\n' + request;
}

}  // namespace

void Supervisor::handle_request(const Request& request) {
  if (request.uid != ::geteuid() && request.uid != 0) return;
  auto message = Message::parse(request.text);
  if (!message) {
    Message refusal = error_message(message.error());
    const std::string id = id_of_refused(request.text);
    if (!id.empty()) refusal.set("id", id);
    (void)control_->send(request.sender, refusal);
    return;
  }
  if (message->type() == "agent_hello") return agent_hello(request.sender, *message);
  if (AgentRecord* agent = agents_.by_routing(request.sender)) {
    return agent_message(*agent, *message);
  }
  client_request(request.sender, *message);
}

// A request repeated under the same id is answered, never run, a second time.
void Supervisor::client_request(const std::string& client, const Message& message) {
  const std::string type = message.type();
  const std::string request = message.text("id");
  if (type == "hello") {
    Message welcome("welcome");
    welcome.set("runtime", ::getpid()).set("version", POLYKV_VERSION);
    return reply(client, request, welcome);
  }
  if (type == "status") return reply(client, request, snapshot());
  if (type == "cancel") return cancel(client, message);
  if (request.empty()) {
    return reply(client, request,
                 error_message({ErrorCode::bad_message,
                                cat("'", type, "' needs an \"id\", so that its answer can be told"),
                                type,
                                {}}));
  }
  const auto [known, is_new] = answered_.emplace(request_key(client, request), std::nullopt);
  if (!is_new) {
    if (known->second) (void)control_->send(client, *known->second);
    return;
  }
  answered_order_.push_back(known->first);
  while (answered_order_.size() > kAnswersKept) {
    answered_.erase(answered_order_.front());
    answered_order_.pop_front();
  }
  if (type == "pool_create" || type == "append")
    return pool_request(client, 0, message, UniqueFd());
  if (type == "pool_fork" || type == "pool_drop" || type == "pool_pin" || type == "pool_unpin")
    return change_pools(client, message);
  if (type == "agents_start") return start_agents(client, message);
  if (type == "agents_stop") return stop_agents(client, message);
  if (type == "generate") return generate(client, message);
  if (type == "shutdown") {
    reply(client, request, Message("ok"));
    running_ = false;
    return;
  }
  reply(client, request,
        error_message({ErrorCode::bad_message, cat("clients do not send '", type, "'"), type, {}}));
}

// The final answer to a request.
void Supervisor::reply(const std::string& client, const std::string& request, Message message) {
  if (!request.empty()) {
    message.set("id", request);
    const auto known = answered_.find(request_key(client, request));
    if (known != answered_.end()) known->second = message;
  }
  (void)control_->send(client, message);  // who went away misses it
}

// Something on the way to the answer; false if the client is gone or does not read.
bool Supervisor::reply_part(const std::string& client, const std::string& request,
                            Message message) {
  message.set("id", request);
  return control_->send(client, message);
}

void Supervisor::agent_hello(const std::string& routing, const Message& message) {
  const std::string name = message.text("agent");
  AgentRecord* agent = agents_.find(name);
  if (agent == nullptr) agent = &agents_.add(name);  // started by hand
  agent->routing = routing;
  agent->pid = static_cast<pid_t>(message.integer("pid"));
  agent->pool = message.text("pool");
  agent->version = static_cast<uint64_t>(message.integer("version"));
  agent->attach_ms = message.number("attach_ms");
  agent->kernel = message.text("kernel");
  agent->state = AgentRecord::State::idle;
  for (const std::string& fallback : message.texts("fallbacks")) {
    fallbacks_.push_back(cat("agent ", name, ": ", fallback));
    log_line(LogLevel::warning, fallbacks_.back());
  }
  settle_start(name, nullptr);
  dispatch();
}

void Supervisor::agent_message(AgentRecord& agent, const Message& message) {
  if (!agent.running || message.text("id") != cat(agent.running->key)) return;
  const Generation& generation = *agent.running;
  if (message.type() == "token") {
    if (!reply_part(generation.client, generation.request, message)) {
      Message stop("cancel");  // a client that vanished stops costing
      stop.set("request", cat(generation.key));
      (void)control_->send(agent.routing, stop);
    }
    return;
  }
  if (message.type() != "done" && message.type() != "error") return;
  Message answer = message;
  if (message.type() == "done") {
    answer.set("attach_ms", agent.attach_ms);
    agent.tokens += static_cast<uint64_t>(message.integer("tokens"));
    agent.pool = message.text("pool");
    agent.version = static_cast<uint64_t>(message.integer("version"));
  } else {
    agent.last_error = message.text("message");
  }
  reply(generation.client, generation.request, answer);
  agent.running.reset();
  agent.state = AgentRecord::State::idle;
  dispatch();
}

void Supervisor::start_agents(const std::string& client, const Message& message) {
  const int64_t count = message.integer("count");
  const std::string request = message.text("id");
  const auto refuse = [&](const Error& error) { reply(client, request, error_message(error)); };
  const auto alive = static_cast<int64_t>(agents_.alive());
  if (count < 1 || alive + count > kAgentsMax) {
    return refuse({ErrorCode::bad_agent_count,
                   cat("cannot start ", count, " agents beside ", alive, ": from 1 to ", kAgentsMax,
                       " can run in one runtime"),
                   cat(count), cat(kAgentsMax)});
  }
  const std::string pool = message.text("pool");
  auto version = registry_.version(pool, static_cast<uint64_t>(message.integer("version")));
  if (!version) return refuse(version.error());
  PendingStart start;
  start.client = client;
  start.request = request;
  start.all = count;
  for (int64_t i = 0; i < count; ++i) {
    AgentRecord& agent = agents_.add(agents_.new_name());
    agent.pool = pool;
    agent.version = (*version)->number;
    if (auto spawned = spawn_agent(agent); !spawned) {
      agent.state = AgentRecord::State::ended;  // it never was: nobody may wait for it
      for (const std::string& name : start.started) stop_agent(*agents_.find(name));
      return refuse(spawned.error());
    }
    start.names.insert(agent.name);
    start.started.push_back(agent.name);
  }
  starts_.push_back(std::move(start));
}

Status Supervisor::spawn_agent(AgentRecord& agent) {
  std::vector<std::string> arguments{
      "--runtime",    directory_.path(),  "--agent",   agent.name,
      "--pool",       agent.pool,         "--threads", cat(options_.agent_threads),
      "--started-ns", cat(monotonic_ns())};
  if (agent.restarts == 0) {
    arguments.insert(arguments.end(), {"--pool-version", cat(agent.version)});
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

// An agent_start's agent was heard of: hello (no failure), or its end.
void Supervisor::settle_start(const std::string& agent, const Error* failure) {
  for (auto it = starts_.begin(); it != starts_.end(); ++it) {
    if (it->names.erase(agent) == 0) continue;
    if (failure != nullptr && !it->failed) it->first_failure = *failure;
    it->failed = it->failed || failure != nullptr;
    Message progress("progress");
    const auto left = static_cast<int64_t>(it->names.size());
    progress.set("phase", "agents").set("done", it->all - left).set("all", it->all);
    progress.set("rate", 0.0);
    (void)reply_part(it->client, it->request, progress);
    if (left > 0) return;
    Message answer("ok");
    answer.set("agents", it->started);
    reply(it->client, it->request, it->failed ? error_message(it->first_failure) : answer);
    starts_.erase(it);
    return;
  }
}

// An agent's process ended: its request fails by name, the others are untouched.
void Supervisor::agent_ended(AgentRecord& agent, const std::string& story) {
  const bool was_starting = agent.state == AgentRecord::State::starting;
  agent.state = AgentRecord::State::ended;
  agent.routing.clear();
  agent.last_error = story;
  const Error error{ErrorCode::agent_lost,
                    cat("agent ", agent.name, " (pid ", agent.pid, ") ended: ", story),
                    story,
                    {}};
  log_line(agent.stopping ? LogLevel::info : LogLevel::warning, error.message);
  const auto fail_generation = [&](const Generation& generation) {
    Message message = error_message(error);
    message.set("agent", agent.name).set("pid", agent.pid);
    reply(generation.client, generation.request, message);
  };
  if (agent.running) fail_generation(*agent.running);
  agent.running.reset();
  if (was_starting) settle_start(agent.name, &error);
  const bool again = options_.restart_agents && !was_starting && !agent.stopping &&
                     agent.restarts < kAgentRestartsMax && agent.child.pid() > 0;
  if (again) {
    ++agent.restarts;
    if (spawn_agent(agent)) return;
  }
  for (const Generation& generation : agents_.withdraw(agent.name)) fail_generation(generation);
  if (agents_.alive() > 0) return;
  for (const Generation& generation : agents_.withdraw("")) fail_generation(generation);
}

void Supervisor::stop_agent(AgentRecord& agent) {
  agent.stopping = true;
  if (!agent.routing.empty()) (void)control_->send(agent.routing, Message("stop"));
  if (agent.child.pid() > 0) agent.child.signal(SIGTERM);
}

void Supervisor::stop_agents(const std::string& client, const Message& message) {
  const std::string name = message.text("agent");
  if (!name.empty() && agents_.find(name) == nullptr) {
    return reply(
        client, message.text("id"),
        error_message({ErrorCode::usage, cat("there is no agent '", name, "'"), name, {}}));
  }
  for (auto& [known, agent] : agents_.all()) {
    if (!name.empty() && known != name) continue;
    stop_agent(agent);
  }
  reply(client, message.text("id"), Message("ok"));
}

void Supervisor::generate(const std::string& client, const Message& message) {
  const std::string request = message.text("id");
  auto version =
      registry_.version(message.text("pool"), static_cast<uint64_t>(message.integer("version")));
  Error error;
  const std::string agent = message.text("agent");
  if (!version) {
    error = version.error();
  } else if (!agent.empty() && agents_.find(agent) == nullptr) {
    error = {ErrorCode::usage, cat("there is no agent '", agent, "'"), agent, {}};
  } else if (!agent.empty() && agents_.find(agent)->state == AgentRecord::State::ended) {
    error = {ErrorCode::agent_lost, cat("agent '", agent, "' has ended"), agent, {}};
  } else if (agents_.alive() == 0) {
    error = {ErrorCode::agent_lost, "no agent is running: start some first", {}, {}};
  }
  if (!error.message.empty()) return reply(client, request, error_message(error));
  Generation generation{next_key_++, client, request, message, agent};
  generation.message.set("version", (*version)->number);  // a start names its version
  agents_.enqueue(std::move(generation));
  dispatch();
}

// Gives waiting generations to idle agents.
void Supervisor::dispatch() {
  while (auto next = agents_.next()) {
    auto& [generation, agent] = *next;
    Message start = generation.message.renamed("start");
    start.set("id", cat(generation.key));
    agent->state = AgentRecord::State::busy;
    agent->running = std::move(generation);
    (void)control_->send(agent->routing, start);  // an agent that died meanwhile is reaped
  }
}

void Supervisor::cancel(const std::string& client, const Message& message) {
  const std::string wanted = message.text("request");
  if (auto waiting = agents_.withdraw(client, wanted)) {
    reply(client, wanted,
          error_message({ErrorCode::cancelled, "cancelled before it started", {}, {}}));
  }
  for (auto& [name, agent] : agents_.all()) {
    if (!agent.running || agent.running->client != client) continue;
    if (agent.running->request != wanted) continue;
    Message stop("cancel");
    stop.set("request", cat(agent.running->key));
    (void)control_->send(agent.routing, stop);
  }
  reply(client, message.text("id"), Message("ok"));
}

}  // namespace polykv
