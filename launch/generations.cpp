// From a generate request to its last answer.
#include "launch/generations.h"

namespace polykv {
namespace {

Asker asker_of(const Generation& generation) {
  return {.client = generation.client, .link = 0, .request = generation.request};
}

Status check_agent(AgentTable& agents, const std::string& agent, const std::string& model) {
  if (!agent.empty() && agents.find(agent) == nullptr) {
    return fail(ErrorCode::usage, cat("there is no agent '", agent, "'"), agent);
  }
  if (!agent.empty() && agents.find(agent)->state == AgentRecord::State::ended) {
    return fail(ErrorCode::agent_lost, cat("agent '", agent, "' has ended"), agent);
  }
  if (!agent.empty() && agents.find(agent)->model != model) {
    return fail(ErrorCode::usage,
                cat("agent '", agent, "' is of model '", agents.find(agent)->model, "', not of '",
                    model, "'"),
                agent);
  }
  if (agents.alive_of(model) == 0) {
    return fail(ErrorCode::agent_lost,
                cat("no agent is running for model '", model, "': start some first"), model);
  }
  return {};
}

}  // namespace

void Generations::generate(const Asker& asker, const Message& message) {
  auto model = models_.find(message.text("model"));
  if (!model) return replies_.refuse(asker, model.error());
  auto version = (*model)->registry.version(message.text("pool"),
                                            static_cast<uint64_t>(message.integer("version")));
  if (!version) return replies_.refuse(asker, version.error());
  const std::string agent = message.text("agent");
  if (auto good = check_agent(agents_, agent, (*model)->name); !good)
    return replies_.refuse(asker, good.error());
  Generation generation{next_key_++, asker.client, asker.request, message, agent, (*model)->name};
  generation.message.set("version", (*version)->number);  // a start names its version
  agents_.enqueue(std::move(generation));
  dispatch();
}

void Generations::dispatch() {
  while (auto next = agents_.next()) {
    auto& [generation, agent] = *next;
    Message start = generation.message.renamed("start");
    start.set("id", cat(generation.key));
    agent->state = AgentRecord::State::busy;
    agent->running = std::move(generation);
    (void)control_.send(agent->routing, start);  // an agent that died meanwhile is reaped
  }
}

void Generations::cancel(const std::string& client, const std::string& request) {
  if (auto waiting = agents_.withdraw(client, request)) {
    replies_.refuse(asker_of(*waiting),
                    {ErrorCode::cancelled, "cancelled before it started", {}, {}});
  }
  for (auto& [name, agent] : agents_.all()) {
    if (!agent.running || agent.running->client != client) continue;
    if (agent.running->request == request) cancel_at(agent);
  }
}

void Generations::cancel_at(const AgentRecord& agent) {
  Message stop("cancel");
  stop.set("request", cat(agent.running->key));
  (void)control_.send(agent.routing, stop);
}

void Generations::agent_message(AgentRecord& agent, const Message& message) {
  if (!agent.running || message.text("id") != cat(agent.running->key)) return;
  const Asker asker = asker_of(*agent.running);
  if (message.type() == "token") {
    if (!replies_.part(asker, message)) cancel_at(agent);  // a client that vanished stops costing
    return;
  }
  if (message.type() != "done" && message.type() != "error") return;
  Message answer = message;
  if (message.type() == "done") {
    answer.set("model", agent.model).set("attach_ms", agent.attach_ms);
    agent.tokens += static_cast<uint64_t>(message.integer("tokens"));
    agent.pool = message.text("pool");
    agent.version = static_cast<uint64_t>(message.integer("version"));
  } else {
    agent.last_error = message.text("message");
  }
  replies_.reply(asker, answer);
  agent.running.reset();
  agent.state = AgentRecord::State::idle;
  dispatch();
}

void Generations::fail_generation(const Generation& generation, const AgentRecord& agent,
                                  const Error& error) {
  Message message = error_message(error);
  message.set("agent", agent.name).set("pid", agent.pid);
  replies_.reply(asker_of(generation), message);
}

void Generations::agent_lost(AgentRecord& agent, const Error& error) {
  if (agent.running) fail_generation(*agent.running, agent, error);
  agent.running.reset();
}

void Generations::agent_gone(const AgentRecord& agent, const Error& error) {
  for (const Generation& waiting : agents_.withdraw(agent.name)) {
    fail_generation(waiting, agent, error);
  }
  if (agents_.alive_of(agent.model) > 0) return;
  for (const Generation& waiting : agents_.withdraw_of_model(agent.model))
    fail_generation(waiting, agent, error);
}

}  // namespace polykv
