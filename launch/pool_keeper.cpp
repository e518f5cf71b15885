// Fork, drop, pin, unpin: the answers and the events.
#include "launch/pool_keeper.h"

#include "ipc/log.h"
#include "launch/pool_requests.h"

namespace polykv {

void PoolKeeper::change(const Asker& asker, const Message& message) {
  auto model = models_.find(message.text("model"));
  if (!model) return replies_.refuse(asker, model.error());
  const std::string type = message.type();
  Result<Message> answer = type == "pool_fork"   ? fork(**model, message)
                           : type == "pool_drop" ? drop(**model, message)
                                                 : pin_pool((*model)->registry, message);
  if (!answer) return replies_.refuse(asker, answer.error());
  log_line(LogLevel::info, cat(type, " of pool ", message.text("pool")),
           {{"model", (*model)->name}, {"request", asker.request}});
  replies_.reply(asker, std::move(*answer));
}

Result<Message> PoolKeeper::fork(ModelSlot& model, const Message& message) {
  auto ready = fork_pool(model.registry, model.busy_pools, memory_room(budget_.left()), message);
  if (!ready) return ready;
  replies_.announce("pool", ready->set("model", model.name));
  return ready;
}

Result<Message> PoolKeeper::drop(ModelSlot& model, const Message& message) {
  const std::string pool = message.text("pool");
  const Pool* found = model.registry.find(pool);
  Message event("pool_dropped");
  event.set("model", model.name)
      .set("pool", pool)
      .set("version", found == nullptr ? 0 : found->current->number);
  event.set("reason", "asked");
  if (auto dropped = drop_pool(model.registry, model.busy_pools, message); !dropped) {
    return pass(dropped);
  }
  event.set("leases", leases_.rename(model.name, pool, dropped_name(pool)));
  replies_.announce("pool", event);
  return event;
}

}  // namespace polykv
