// What becomes of pools without a writer: fork, drop, pin, unpin; and what ends them by itself:
// time to live, and the budget.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "launch/budget.h"
#include "launch/deadlines.h"
#include "launch/eviction.h"
#include "launch/leases.h"
#include "launch/model_slot.h"
#include "launch/replies.h"

namespace polykv {

class PoolKeeper {
 public:
  // Does anybody wait for this pool who has no lease on it yet?
  using Awaited = std::function<bool(const std::string& model, const std::string& pool)>;

  PoolKeeper(Models& models, Leases& leases, Budget& budget, Replies& replies, Deadlines& deadlines)
      : models_(models),
        leases_(leases),
        budget_(budget),
        replies_(replies),
        deadlines_(deadlines) {}
  void on_awaited(Awaited awaited) { awaited_ = std::move(awaited); }

  // pool_fork, pool_drop, pool_pin, pool_unpin: done at once. A fork and a drop are events, too.
  void change(const Asker& asker, const Message& message);

  // A new pool. ttl_seconds 0: for as long as the runtime.
  void add(const ModelSlot& model, const std::string& pool, int64_t ttl_seconds);
  // A request was about this pool, or a lease on it ended.
  void used(const std::string& model, const std::string& pool);
  void used(const Message& request);  // if it is about one
  // pool_status of a pool. leases: of each version.
  Message status(const ModelSlot& model, const Pool& pool,
                 const std::map<const Version*, uint64_t>& leases) const;

  // Promises memory to a segment that is about to be made: if need be, pools that nobody leases,
  // pins, writes or waits for are dropped for it, but only if it fits then. memory_limit names all
  // holders.
  Result<Reservation> make_room(uint64_t bytes);
  uint64_t evicted() const { return evicted_; }

 private:
  using Key = std::pair<std::string, std::string>;  // model, pool
  struct Use {
    SteadyTime last;
    int64_t ttl_seconds = 0;
    Deadlines::Timer timer = 0;
  };

  Result<Message> fork(ModelSlot& model, const Message& message);
  Result<Message> pin(ModelSlot& model, const Message& message);
  Result<Message> drop(ModelSlot& model, const std::string& pool, const char* reason);
  void set_lapse(ModelSlot& model, const std::string& pool, uint64_t version, int64_t seconds);
  void expire(const Key& key);
  bool in_use(const ModelSlot& model, const std::string& pool) const;
  std::vector<PoolOfModel> droppable() const;  // least recently used first

  Models& models_;
  Leases& leases_;
  Budget& budget_;
  Replies& replies_;
  Deadlines& deadlines_;
  Awaited awaited_;
  std::map<Key, Use> uses_;
  std::map<std::tuple<std::string, std::string, uint64_t>, Deadlines::Timer> lapses_;  // of pins
  uint64_t evicted_ = 0;
};

}  // namespace polykv
