// Choosing pools to drop.
#include "launch/eviction.h"

namespace polykv {
namespace {

uint64_t held_without(const Models& models, const std::vector<PoolOfModel>& dropped) {
  uint64_t bytes = 0;
  for (const auto& model : models.all()) {
    std::set<std::string> names;
    for (const PoolOfModel& one : dropped) {
      if (one.model == model.get()) names.insert(one.pool);
    }
    bytes += model->registry.held_bytes(names);
  }
  return bytes;
}

}  // namespace

std::optional<std::vector<PoolOfModel>> choose_evictions(const Models& models,
                                                         const std::vector<PoolOfModel>& candidates,
                                                         uint64_t bytes) {
  std::vector<PoolOfModel> chosen;
  for (const PoolOfModel& candidate : candidates) {
    if (held_without(models, chosen) <= bytes) break;
    chosen.push_back(candidate);
  }
  if (held_without(models, chosen) > bytes) return std::nullopt;
  // Those that were not needed after all stay, the most recently used first.
  for (size_t i = chosen.size(); i-- > 0;) {
    std::vector<PoolOfModel> fewer = chosen;
    fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
    if (held_without(models, fewer) <= bytes) chosen = std::move(fewer);
  }
  return chosen;
}

}  // namespace polykv
