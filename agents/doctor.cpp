// The chosen kernels and what was refused.
#include "agents/doctor.h"

#include <vector>

#include "model/kernels.h"
#include "reader/attend.h"

namespace polykv {
namespace {

constexpr const char* kSlow = "this processor has no AVX2, or a self-test failed: it works, slowly";

template <class Kernel>
std::string names_of(std::span<const Kernel> kernels) {
  std::string names;
  for (const Kernel& kernel : kernels) names += cat(names.empty() ? "" : ", ", kernel.name);
  return names;
}

Message check_of(const char* name, std::string_view chosen, const std::string& all, int refused) {
  Message check("doctor_check");
  const bool good = refused == 0 && chosen != "ref";
  check.set("name", name).set("verdict", good ? "ok" : "warning").set("advice", good ? "" : kSlow);
  std::string found = cat(chosen, " is used; those that passed their self-tests: ", all);
  if (refused > 0) found += cat("; ", refused, " failed theirs");
  return check.set("found", found);
}

}  // namespace

Message examine_kernels() {
  const auto matrix = choose_kernels();
  const auto attend = choose_attend_kernel();
  std::vector<Message> checks;
  checks.push_back(check_of("matrix kernels", matrix ? matrix->name : "ref",
                            names_of(kernel_sets()), kernel_fallbacks()));
  checks.push_back(check_of("attention kernels", attend ? attend->name : "ref",
                            names_of(attend_kernels()), attend_fallbacks()));
  return Message("doctor").set("usable", true).set("checks", checks);
}

}  // namespace polykv
