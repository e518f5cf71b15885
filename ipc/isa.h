// Kernels by name, for whoever forces them: which names there are on this processor. Whether a
// kernel passes its self-test is only known where it is chosen.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ipc/result.h"

namespace polykv {

// The names whose instructions this processor has, the plainest first.
std::vector<std::string_view> isa_names();

// usage, with the names there are: nobody knows this one, or this processor lacks it. "" (the best)
// and "fp32" (nothing rounded, to measure the others) are everywhere.
Status check_isa(std::string_view name);

}  // namespace polykv
