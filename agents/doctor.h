// `polykv-agent --doctor`: which kernels this processor gets, told as `polykv doctor` tells it.
#pragma once

#include "ipc/message.h"

namespace polykv {

// Runs the kernels' self-tests; "doctor" (docs/protocol.md).
Message examine_kernels();

}  // namespace polykv
