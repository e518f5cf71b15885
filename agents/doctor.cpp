// The chosen kernels and what was refused.
#include "agents/doctor.h"

#include <algorithm>
#include <vector>

namespace polykv {
namespace {

constexpr const char* kSlow = "this processor has no AVX2: it works, slowly";
constexpr const char* kBroken =
    "a kernel gives wrong numbers on this processor and is not used; please report it";

std::string listed(const std::vector<std::string_view>& names) {
  std::string list;
  for (const std::string_view name : names) list += cat(list.empty() ? "" : ", ", name);
  return list;
}

// Kernels the best first.
template <class Kernel, class Passes>
Message check_of(const char* name, const std::vector<Kernel>& kernels, const Passes& passes) {
  std::vector<std::string_view> sound, refused;
  const Kernel* used = nullptr;
  for (const Kernel& kernel : kernels) {
    const bool good = passes(kernel);
    (good ? sound : refused).push_back(kernel.name);
    if (good && used == nullptr) used = &kernel;
  }
  std::string found = "none passes its self-test";
  if (used != nullptr) {
    found = cat(used->name, " is used (", used->operations, ")");
    found += cat("; those that passed their self-tests: ", listed(sound));
  }
  if (!refused.empty()) found += cat("; failed theirs: ", listed(refused));
  const bool slow = used == nullptr || used->name == "ref";
  const char* advice = !refused.empty() ? kBroken : slow ? kSlow : "";
  return Message("doctor_check")
      .set("name", name)
      .set("verdict", refused.empty() && !slow ? "ok" : "warning")
      .set("advice", advice)
      .set("found", found);
}

}  // namespace

Message examine_kernels(std::span<const Kernels> sets, std::span<const AttendKernel> attend) {
  const std::vector<Kernels> matrix(sets.begin(), sets.end());
  const std::vector<AttendKernel> attention(attend.rbegin(), attend.rend());
  std::vector<Message> checks;
  checks.push_back(check_of("matrix kernels", matrix, reproduces_known_vectors));
  checks.push_back(check_of("attention kernels", attention, keeps_to_the_specification));
  return Message("doctor").set("usable", true).set("checks", checks);
}

}  // namespace polykv
