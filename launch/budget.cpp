// The budget, and who holds the memory.
#include "launch/budget.h"

#include <set>

namespace polykv {
namespace {

constexpr size_t kHoldersMax = 4000;  // bytes: of a thousand pools the first will do

}  // namespace

std::optional<uint64_t> Budget::left() const {
  if (!bytes_) return std::nullopt;
  const uint64_t taken = models_.held_bytes() + promised_;
  return *bytes_ > taken ? *bytes_ - taken : 0;
}

std::string Budget::holders() const {
  std::string sentence;
  for (const auto& model : models_.all()) {
    std::set<std::pair<std::string, std::string>> held;  // in the order of their names
    for (const Link& link : leases_.all()) {
      if (link.leased && link.model == model->name) held.emplace(link.pool, link.agent);
    }
    const std::multimap<std::string, std::string> agents(held.begin(), held.end());
    if (!sentence.empty()) sentence += "; ";
    if (models_.all().size() > 1) sentence += cat(model->name, ": ");
    sentence += model->registry.holders(agents);
  }
  if (sentence.size() > kHoldersMax) sentence = sentence.substr(0, kHoldersMax) + " ...";
  return sentence;
}

}  // namespace polykv
