// Which pools to drop so that something else fits.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launch/model_slot.h"

namespace polykv {

struct PoolOfModel {
  ModelSlot* model = nullptr;
  std::string pool;
};

// Of `candidates`, least recently used first, those to drop so that all models together hold at
// most `bytes`. Empty: that is so already. nullopt: it would not be so without any of them.
// Pools share segments (forks do): one whose end would free nothing is not chosen.
std::optional<std::vector<PoolOfModel>> choose_evictions(const Models& models,
                                                         const std::vector<PoolOfModel>& candidates,
                                                         uint64_t bytes);

}  // namespace polykv
