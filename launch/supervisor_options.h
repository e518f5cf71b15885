// What a supervisor is started with.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launch/deadlines.h"

namespace polykv {

inline constexpr int64_t kAgentsMax = 256;

struct ModelOptions {
  std::string name;  // what requests call it
  std::string path;
  std::string chat_format = {};  // "" = the one that the file's template has
  // No writer is started: the first polykv-writer that names this model is it, and when it goes
  // away the next one.
  bool writer_by_hand = false;
};

struct SupervisorOptions {
  std::vector<ModelOptions> models;  // the first is meant where a request names none
  std::string writer_program;        // absolute paths
  std::string agent_program;
  std::string image_cache = {};  // of the writers; "" = none
  unsigned writer_threads = 2;
  unsigned agent_threads = 0;      // 0: each gets its share of the cores (threads_of_each)
  unsigned agent_lanes = 1;        // generations at once in one process
  size_t first_agents = 0;         // so many are to be started at the beginning, all pools together
  std::optional<uint64_t> budget;  // bytes of shared memory, image included; nullopt = no own limit
  bool restart_agents = false;
  SteadyClock clock;  // empty: the machine's
  std::string isa;    // force kernels in agents; "" = the best
};

}  // namespace polykv
