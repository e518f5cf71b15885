// The snapshot: everything that a person or a script asks a running system.
#include <unistd.h>

#include "launch/pool_requests.h"
#include "launch/supervisor.h"

namespace polykv {
namespace {

Message agent_status(const AgentRecord& agent) {
  Message status("agent_status");
  const bool alive = agent.state != AgentRecord::State::ended;
  const auto use = alive ? memory_use(agent.pid) : Result<MemoryUse>(MemoryUse{});
  status.set("agent", agent.name).set("pid", agent.pid).set("state", agent.state_name());
  status.set("pool", agent.pool).set("version", agent.version);
  status.set("attach_ms", agent.attach_ms).set("tokens", agent.tokens);
  status.set("private_bytes", use ? use->private_bytes : 0);
  status.set("restarts", agent.restarts).set("last_error", agent.last_error);
  return status;
}

}  // namespace

Message Supervisor::snapshot() {
  std::vector<Message> pools;
  for (const auto& [name, pool] : registry_.pools()) pools.push_back(pool_status(pool));
  std::vector<Message> agents;
  for (const auto& [name, agent] : agents_.all()) agents.push_back(agent_status(agent));
  const HeldImage* image = registry_.image();
  Message snapshot("snapshot");
  snapshot.set_id("seq", event_).set("pid", ::getpid());
  snapshot.set("writer_pid", std::max(0, writer_.pid())).set("writer_state", writer_.state_name());
  snapshot.set("writer_restarts", writer_.restarts());
  if (options_.budget) snapshot.set("budget_bytes", *options_.budget);
  snapshot.set("held_bytes", registry_.held_bytes());
  snapshot.set("model", image == nullptr ? "" : image->name);
  snapshot.set("fingerprint", image == nullptr ? "" : image->fingerprint);
  snapshot.set("image_bytes", image == nullptr ? 0 : image->view.data().size());
  snapshot.set("positions", image == nullptr ? 0 : image->n_positions);
  snapshot.set("fallbacks", fallbacks_).set("pools", pools).set("agents", agents);
  return snapshot;
}

}  // namespace polykv
