// A snapshot for people: what `status` prints once and `status --watch` again and again.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "ipc/message.h"

namespace polykv {

// What is not in a snapshot itself.
struct ViewNotes {
  std::map<std::string, double> tokens_per_s;  // of agents, where the snapshot does not say
  std::vector<std::string> events;             // what happened last, oldest first
};

// Lines, each at most `columns` characters wide (0 = as wide as they are).
std::vector<std::string> status_lines(const Message& snapshot, const ViewNotes& notes,
                                      size_t columns);

// Tokens per second of each agent, from its count in two snapshots that far apart.
std::map<std::string, double> rates_between(const Message& before, const Message& after,
                                            double seconds);
// "a02 (pid 4002) ended: killed by signal 9", from a message of the bus; "" if it tells nothing.
std::string event_line(const Message& event);

}  // namespace polykv
