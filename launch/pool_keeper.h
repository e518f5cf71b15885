// What becomes of pools without a writer: fork, drop, pin, unpin.
#pragma once

#include <string>

#include "launch/budget.h"
#include "launch/leases.h"
#include "launch/model_slot.h"
#include "launch/replies.h"

namespace polykv {

class PoolKeeper {
 public:
  PoolKeeper(Models& models, Leases& leases, const Budget& budget, Replies& replies)
      : models_(models), leases_(leases), budget_(budget), replies_(replies) {}

  // pool_fork, pool_drop, pool_pin, pool_unpin: done at once. A fork and a drop are events, too.
  void change(const Asker& asker, const Message& message);

 private:
  Result<Message> fork(ModelSlot& model, const Message& message);
  Result<Message> drop(ModelSlot& model, const Message& message);

  Models& models_;
  Leases& leases_;
  const Budget& budget_;
  Replies& replies_;
};

}  // namespace polykv
