// The snapshot: everything that a person or a script asks a running system.
#include <unistd.h>

#include "launch/pool_requests.h"
#include "launch/supervisor.h"

namespace polykv {
namespace {

constexpr const char* kModelName = "main";

Message agent_status(const AgentRecord& agent) {
  Message status("agent_status");
  const bool alive = agent.state != AgentRecord::State::ended;
  const auto use = alive ? memory_use(agent.pid) : Result<MemoryUse>(MemoryUse{});
  status.set("agent", agent.name).set("pid", agent.pid).set("state", agent.state_name());
  status.set("model", kModelName).set("pool", agent.pool).set("version", agent.version);
  status.set("attach_ms", agent.attach_ms).set("tokens", agent.tokens);
  status.set("kernel", agent.kernel).set("tokens_per_s", 0.0);
  status.set("private_bytes", use ? use->private_bytes : 0);
  status.set("restarts", agent.restarts).set("last_error", agent.last_error);
  return status;
}

}  // namespace

Message Supervisor::snapshot() {
  std::map<const Version*, uint64_t> leases;
  for (const Link& link : links_) {
    if (link.leased) ++leases[link.leased.get()];
  }
  std::vector<Message> pools;
  for (const auto& [name, pool] : registry_.pools()) {
    pools.push_back(pool_status(kModelName, pool, leases));
  }
  std::vector<Message> agents;
  for (const auto& [name, agent] : agents_.all()) agents.push_back(agent_status(agent));
  const HeldImage* image = registry_.image();
  Message model("model_status");
  model.set("model", kModelName).set("name", image == nullptr ? "" : image->name);
  model.set("fingerprint", image == nullptr ? "" : image->fingerprint);
  model.set("image_bytes", image == nullptr ? 0 : image->view.data().size());
  model.set("positions", image == nullptr ? 0 : image->n_positions);
  model.set("writer_pid", std::max(0, writer_.pid())).set("writer_state", writer_.state_name());
  model.set("writer_restarts", writer_.restarts());
  Message snapshot("snapshot");
  snapshot.set_id("seq", event_).set_id("agent_seq", 0).set_id("token_seq", 0);
  snapshot.set("pid", ::getpid()).set("held_bytes", registry_.held_bytes());
  if (options_.budget) snapshot.set("budget_bytes", *options_.budget);
  snapshot.set("evicted_pools", 0).set("fallbacks", fallbacks_);
  snapshot.set("models", std::vector<Message>{model});
  snapshot.set("pools", pools).set("agents", agents);
  return snapshot;
}

}  // namespace polykv
