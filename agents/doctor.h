// `polykv-agent --doctor`: which kernels this processor gets, told as `polykv doctor` tells it.
#pragma once

#include <span>

#include "ipc/message.h"
#include "model/kernels.h"
#include "reader/attend.h"

namespace polykv {

// Runs the self-tests of all these kernels; "doctor" (docs/protocol.md).
Message examine_kernels(std::span<const Kernels> sets = kernel_sets(),
                        std::span<const AttendKernel> attend = attend_kernels());

}  // namespace polykv
