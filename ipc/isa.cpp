// Names of kernels and what they need.
#include "ipc/isa.h"

#include <algorithm>
#include <array>

#include "ipc/amx.h"

namespace polykv {
namespace {

constexpr std::array<std::string_view, 5> kNames = {"ref", "avx2", "avx512", "avx512vbmi", "amx"};

// How many of them run here.
size_t n_here() {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  if (!avx2) return 1;
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512vnni");
  if (!avx512) return 2;
  if (!__builtin_cpu_supports("avx512vbmi")) return 3;
  return has_amx_tiles() ? 5 : 4;
#else
  return 1;
#endif
}

}  // namespace

std::vector<std::string_view> isa_names() {
  return {kNames.begin(), kNames.begin() + static_cast<std::ptrdiff_t>(n_here())};
}

Status check_isa(std::string_view name) {
  if (name.empty() || name == "fp32") return {};
  const std::vector<std::string_view> here = isa_names();
  if (std::ranges::find(here, name) != here.end()) return {};
  const bool known = std::ranges::find(kNames, name) != kNames.end();
  std::string names;
  for (const std::string_view one : here) names += cat(names.empty() ? "" : ", ", one);
  return fail(ErrorCode::usage,
              cat(known ? "this processor cannot run the kernels '" : "there are no kernels '",
                  name, "': --isa (POLYKV_ISA, isa in a deployment's file) takes ", names,
                  " here; leave it out for the best"),
              std::string(name), names);
}

}  // namespace polykv
