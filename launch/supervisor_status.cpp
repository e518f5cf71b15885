// The snapshot: everything that a person or a script asks a running system.
#include <unistd.h>

#include "launch/supervisor.h"

namespace polykv {
namespace {

Message agent_status(const AgentRecord& agent) {
  Message status("agent_status");
  // Pid 0: an agent by hand whose process cannot be seen from here.
  const bool alive = agent.state != AgentRecord::State::ended && agent.pid > 0;
  const auto use = alive ? memory_use(agent.pid) : Result<MemoryUse>(MemoryUse{});
  status.set("agent", agent.name).set("pid", agent.pid).set("state", agent.state_name());
  status.set("model", agent.model).set("pool", agent.pool).set("version", agent.version);
  status.set("attach_ms", agent.attach_ms).set("tokens", agent.tokens);
  status.set("kernel", agent.kernel).set("tokens_per_s", agent.tokens_per_s);
  status.set("private_bytes", use ? use->private_bytes : 0);
  status.set("lanes", agent.lanes).set("running", agent.tasks.size());
  status.set("threads", agent.threads);
  status.set("restarts", agent.restarts).set("last_error", agent.last_error);
  return status;
}

Message model_status(const ModelSlot& model) {
  const HeldImage* image = model.registry.image();
  const WriterLink& writer = model.writer;
  Message status("model_status");
  status.set("model", model.name).set("name", image == nullptr ? "" : image->name);
  status.set("fingerprint", image == nullptr ? "" : image->fingerprint);
  status.set("image_bytes", image == nullptr ? 0 : image->view.data().size());
  status.set("positions", image == nullptr ? 0 : image->n_positions);
  status.set("sampling", image == nullptr ? "" : image->sampling);
  status.set("writer_pid", std::max(0, writer.pid())).set("writer_state", writer.state_name());
  if (!model.image_source.empty()) status.set("image_source", model.image_source);
  if (model.failure) status.set("last_error", model.failure->message);
  return status.set("writer_restarts", writer.restarts());
}

// Writers' and agents'; a snapshot has room for so many.
std::vector<std::string> all_fallbacks(const Models& models, const AgentKeeper& agents) {
  constexpr size_t kMost = 1000;
  std::vector<std::string> all;
  for (const auto& model : models.all()) {
    all.insert(all.end(), model->fallbacks.begin(), model->fallbacks.end());
  }
  all.insert(all.end(), agents.fallbacks().begin(), agents.fallbacks().end());
  all.resize(std::min(all.size(), kMost));
  return all;
}

}  // namespace

Message Supervisor::snapshot() {
  const auto leases = leases_.count();
  std::vector<Message> models, pools, agents;
  for (const auto& model : models_.all()) {
    models.push_back(model_status(*model));
    for (const auto& [name, pool] : model->registry.pools()) {
      pools.push_back(pool_keeper_.status(*model, pool, leases));
    }
  }
  for (const auto& [name, agent] : agents_.table().all()) agents.push_back(agent_status(agent));
  Message snapshot("snapshot");
  snapshot.set_id("seq", replies_.last_event("pool"));
  snapshot.set_id("agent_seq", replies_.last_event("agent"));
  snapshot.set_id("token_seq", replies_.last_event("token"));
  snapshot.set("pid", ::getpid()).set("held_bytes", models_.held_bytes());
  if (budget_.bytes()) snapshot.set("budget_bytes", *budget_.bytes());
  snapshot.set("evicted_pools", pool_keeper_.evicted());
  snapshot.set("fallbacks", all_fallbacks(models_, agents_));
  snapshot.set("models", models).set("pools", pools).set("agents", agents);
  return snapshot;
}

}  // namespace polykv
