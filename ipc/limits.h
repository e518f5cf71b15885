// How much memory may still be taken, and by which limit: asked before every allocation of shared
// memory, because past a cgroup limit the kernel kills, and past RLIMIT_FSIZE it sends SIGXFSZ.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "ipc/result.h"

namespace polykv {

// Bytes still free under each limit; nullopt where the limit does not exist.
struct MemoryRoom {
  std::optional<uint64_t> budget = std::nullopt;         // polykv's own limit, minus what it holds
  std::optional<uint64_t> cgroup = std::nullopt;         // tightest cgroup (v1 or v2) up the tree
  std::optional<uint64_t> mem_available = std::nullopt;  // MemAvailable of /proc/meminfo
  std::optional<uint64_t> file_size = std::nullopt;      // RLIMIT_FSIZE (a memfd is a file)
};

// Reads the limits of the calling process. `root` is prefixed to /proc and /sys (tests).
MemoryRoom memory_room(std::optional<uint64_t> budget_left = std::nullopt,
                       const std::string& root = "");

// memory_limit with the name of the first limit that `bytes` would exceed, its value and the way
// out. `holders` (may be empty) says who holds the memory now and is appended to the sentence.
Status check_room(uint64_t bytes, const MemoryRoom& room, const std::string& holders = "");

}  // namespace polykv
