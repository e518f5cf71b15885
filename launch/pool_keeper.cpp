// Fork, drop, pin, unpin; time to live; room within the budget.
#include "launch/pool_keeper.h"

#include <algorithm>

#include "ipc/log.h"
#include "launch/pool_requests.h"

namespace polykv {

void PoolKeeper::change(const Asker& asker, const Message& message) {
  auto model = models_.find(message.text("model"));
  if (!model) return replies_.refuse(asker, model.error());
  const std::string type = message.type();
  Result<Message> answer = type == "pool_fork"   ? fork(**model, message)
                           : type == "pool_drop" ? drop(**model, message.text("pool"), "asked")
                                                 : pin(**model, message);
  if (!answer) return replies_.refuse(asker, answer.error());
  log_line(LogLevel::info, cat(type, " of pool ", message.text("pool")),
           {{"model", (*model)->name}, {"request", asker.request}});
  replies_.reply(asker, std::move(*answer));
}

Result<Message> PoolKeeper::fork(ModelSlot& model, const Message& message) {
  auto ready = fork_pool(model.registry, model.busy_pools, memory_room(budget_.left()), message);
  if (!ready) return ready;
  add(model, message.text("to"), message.integer("ttl_seconds"));
  replies_.announce("pool", ready->set("model", model.name));
  return ready;
}

Result<Message> PoolKeeper::drop(ModelSlot& model, const std::string& pool, const char* reason) {
  const Pool* found = model.registry.find(pool);
  Message event("pool_dropped");
  event.set("model", model.name).set("pool", pool).set("reason", reason);
  event.set("version", found == nullptr ? 0 : found->current->number);
  if (auto dropped = drop_pool(model.registry, model.busy_pools, pool); !dropped) {
    return pass(dropped);
  }
  event.set("leases", leases_.rename(model.name, pool, dropped_name(pool)));
  if (const auto use = uses_.extract({model.name, pool})) deadlines_.cancel(use.mapped().timer);
  std::erase_if(lapses_, [&](const auto& lapse) {
    const auto& [its_model, its_pool, version] = lapse.first;
    if (its_model != model.name || its_pool != pool) return false;
    deadlines_.cancel(lapse.second);
    return true;
  });
  replies_.announce("pool", event);
  return event;
}

// Pinned twice is pinned once, for as long as the later request says.
Result<Message> PoolKeeper::pin(ModelSlot& model, const Message& message) {
  auto answer = pin_pool(model.registry, message);
  if (!answer) return answer;
  const bool is_pin = message.type() == "pool_pin";
  set_lapse(model, message.text("pool"), static_cast<uint64_t>(answer->integer("version")),
            is_pin ? message.integer("ttl_seconds") : 0);
  return answer;
}

// seconds 0: it does not lapse (any more).
void PoolKeeper::set_lapse(ModelSlot& model, const std::string& pool, uint64_t version,
                           int64_t seconds) {
  const auto key = std::tuple(model.name, pool, version);
  if (const auto old = lapses_.extract(key)) deadlines_.cancel(old.mapped());
  if (seconds == 0) return;
  lapses_[key] = deadlines_.after(static_cast<double>(seconds), [this, &model, pool, version, key] {
    lapses_.erase(key);
    (void)model.registry.unpin(pool, version);
    log_line(LogLevel::info, cat("pin of version ", version, " of pool ", pool, " has lapsed"),
             {{"model", model.name}});
  });
}

void PoolKeeper::add(const ModelSlot& model, const std::string& pool, int64_t ttl_seconds) {
  const Key key(model.name, pool);
  Use& use = uses_[key];
  use = {.last = deadlines_.now(), .ttl_seconds = ttl_seconds, .timer = 0};
  if (ttl_seconds == 0) return;
  use.timer = deadlines_.after(static_cast<double>(ttl_seconds), [this, key] { expire(key); });
}

void PoolKeeper::used(const std::string& model, const std::string& pool) {
  const auto use = uses_.find({model, pool});
  if (use != uses_.end()) use->second.last = deadlines_.now();
}

void PoolKeeper::used(const Message& request) {
  if (!request.has("pool")) return;
  if (auto model = models_.find(request.text("model"))) used((*model)->name, request.text("pool"));
}

// The time of a pool may have come. A pool in use is looked at again later: its time counts from
// the end of that.
void PoolKeeper::expire(const Key& key) {
  const auto found = uses_.find(key);
  auto model = models_.find(key.first);
  if (found == uses_.end() || !model) return;
  Use& use = found->second;
  const bool keep = in_use(**model, key.second);
  const SteadyTime from = keep ? deadlines_.now() : use.last;
  const SteadyTime end = from + std::chrono::seconds(use.ttl_seconds);
  if (end > deadlines_.now()) {
    use.timer = deadlines_.at(end, [this, key] { expire(key); });
    return;
  }
  log_line(LogLevel::info,
           cat("pool ", key.second, " is dropped: unused for ", use.ttl_seconds, " seconds"),
           {{"model", key.first}});
  (void)drop(**model, key.second, "expired");
}

bool PoolKeeper::in_use(const ModelSlot& model, const std::string& pool) const {
  const Pool* found = model.registry.find(pool);
  const bool kept = found != nullptr && !found->pinned.empty();
  const bool leased = std::ranges::any_of(leases_.all(), [&](const Link& link) {
    return link.leased && link.model == model.name && link.pool == pool;
  });
  return kept || leased || model.busy_pools.contains(pool) ||
         (awaited_ && awaited_(model.name, pool));
}

Message PoolKeeper::status(const ModelSlot& model, const Pool& pool,
                           const std::map<const Version*, uint64_t>& leases) const {
  Message status = pool_status(model.name, pool, leases);
  const auto use = uses_.find({model.name, pool.name});
  if (use == uses_.end()) return status;
  const std::chrono::duration<double> since = deadlines_.now() - use->second.last;
  const bool leased = status.integer("leases") > 0;
  status.set("idle_seconds", leased || model.busy_pools.contains(pool.name) ? 0.0 : since.count());
  if (use->second.ttl_seconds > 0) status.set("ttl_seconds", use->second.ttl_seconds);
  return status;
}

std::vector<PoolOfModel> PoolKeeper::droppable() const {
  std::vector<std::pair<SteadyTime, PoolOfModel>> found;
  for (const auto& model : models_.all()) {
    for (const auto& [name, pool] : model->registry.pools()) {
      const auto use = uses_.find({model->name, name});
      if (use == uses_.end() || in_use(*model, name)) continue;
      found.push_back({use->second.last, {model.get(), name}});
    }
  }
  // Of two used at the same time the first by name goes first.
  std::ranges::sort(found, [](const auto& a, const auto& b) {
    return std::tie(a.first, a.second.pool) < std::tie(b.first, b.second.pool);
  });
  std::vector<PoolOfModel> pools;
  for (auto& [last, pool] : found) pools.push_back(std::move(pool));
  return pools;
}

Result<Reservation> PoolKeeper::make_room(uint64_t bytes) {
  const auto limit = budget_.bytes();
  if (!limit) return Reservation(budget_, bytes);
  const uint64_t taken = bytes + budget_.promised();
  const auto chosen =
      taken <= *limit ? choose_evictions(models_, droppable(), *limit - taken) : std::nullopt;
  if (!chosen) {
    const MemoryRoom room{.budget = budget_.left()};
    if (auto fits = check_room(bytes, room, budget_.holders()); !fits) return pass(fits);
  }
  for (const PoolOfModel& one : chosen.value_or(std::vector<PoolOfModel>())) {
    if (!drop(*one.model, one.pool, "evicted")) continue;
    ++evicted_;
    log_line(LogLevel::warning,
             cat("pool ", one.pool, " was dropped: it was unused for longest, and the budget of ",
                 megabytes(*limit), " is needed for others"),
             {{"model", one.model->name}});
  }
  return Reservation(budget_, bytes);
}

}  // namespace polykv
