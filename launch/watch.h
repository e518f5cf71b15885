// `polykv status --watch`: a live view. On a terminal one screen that is drawn over; elsewhere one
// block of lines after the other, with an empty line between.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "ipc/result.h"

namespace polykv {

// Goes on until interrupted (ok) or until the runtime ends (not_running). Asks once a second, and
// when the bus tells of a pool or an agent.
Status watch_status(const std::string& runtime, int interrupt_fd);

// What is written to draw `lines` over the screen of so many rows: what does not fit is counted.
std::string screen_of(std::vector<std::string> lines, size_t rows);

}  // namespace polykv
