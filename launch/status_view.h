// A snapshot for people.
#pragma once

#include <iosfwd>

#include "ipc/message.h"

namespace polykv {

void print_snapshot(const Message& snapshot, std::ostream& out);

}  // namespace polykv
