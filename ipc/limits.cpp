// How much memory may still be taken: RLIMIT_FSIZE, cgroups v1 and v2, MemAvailable, polykv's
// budget.
#include "ipc/limits.h"

#include <sys/resource.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>

namespace polykv {
namespace {

// One kind of memory cgroup: where it is mounted and what its files are called.
struct CgroupKind {
  const char* mount;
  const char* limit;
  const char* usage;
  const char* reclaimable;  // line of memory.stat: page cache that the kernel drops before it kills
};

constexpr CgroupKind kV1{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                         "total_inactive_file"};
constexpr CgroupKind kV2{"/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"};
constexpr CgroupKind kHybridV2{"/sys/fs/cgroup/unified", "memory.max", "memory.current",
                               "inactive_file"};

// v1 says "unlimited" with the largest page-aligned number; no machine comes near this bound.
constexpr uint64_t kNoLimit = uint64_t{1} << 60;

std::optional<uint64_t> parse_number(const std::string& text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end == text.data()) return std::nullopt;  // "max" is no limit
  return value;
}

std::optional<uint64_t> number_in(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  if (!(file >> word)) return std::nullopt;
  return parse_number(word);
}

// The number after the word `key` in a file of "key number" lines.
std::optional<uint64_t> line_in(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string word, value;
  while (file >> word) {
    if (word == key && file >> value) return parse_number(value);
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return std::nullopt;
}

void tighten(std::optional<uint64_t>& room, std::optional<uint64_t> other) {
  if (other) room = std::min(room.value_or(*other), *other);
}

// Room in one cgroup directory; nullopt if it has no limit (or does not exist).
std::optional<uint64_t> group_room(const std::string& directory, const CgroupKind& kind) {
  const auto limit = number_in(cat(directory, "/", kind.limit));
  if (!limit || *limit >= kNoLimit) return std::nullopt;
  const uint64_t usage = number_in(cat(directory, "/", kind.usage)).value_or(0);
  const uint64_t cache = line_in(directory + "/memory.stat", kind.reclaimable).value_or(0);
  const uint64_t used = usage - std::min(usage, cache);
  return *limit - std::min(*limit, used);
}

// The tightest of a group and all groups above it, up to the mount (inside a container the path may
// name directories that only exist outside: those are skipped).
std::optional<uint64_t> tree_room(const std::string& root, std::string path,
                                  const CgroupKind& kind) {
  std::optional<uint64_t> room;
  while (!path.empty() && path != "/") {
    tighten(room, group_room(cat(root, kind.mount, path), kind));
    path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
  }
  tighten(room, group_room(cat(root, kind.mount), kind));
  return room;
}

bool lists_memory(const std::string& controllers) {
  return cat(",", controllers, ",").find(",memory,") != std::string::npos;
}

// Lines of /proc/self/cgroup are "id:controllers:path"; v2 has no controllers.
std::optional<uint64_t> cgroup_room(const std::string& root) {
  std::optional<uint64_t> room;
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (lists_memory(controllers)) tighten(room, tree_room(root, path, kV1));
    if (!controllers.empty()) continue;
    tighten(room, tree_room(root, path, kV2));
    tighten(room, tree_room(root, path, kHybridV2));
  }
  return room;
}

std::optional<uint64_t> available_memory(const std::string& root) {
  const auto kib = line_in(root + "/proc/meminfo", "MemAvailable:");
  if (!kib || *kib >= kNoLimit / 1024) return std::nullopt;
  return *kib * 1024;
}

std::optional<uint64_t> file_size_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
    return std::nullopt;
  }
  return limit.rlim_cur;
}

Status check_one(uint64_t bytes, std::optional<uint64_t> room, const char* name,
                 const char* way_out, const std::string& holders) {
  if (!room || bytes <= *room) return {};
  std::string sentence = cat(bytes, " bytes of shared memory are needed, but ", name,
                             " leaves only ", *room, " bytes; ", way_out);
  if (!holders.empty()) sentence += cat(" (held now: ", holders, ")");
  return fail(ErrorCode::memory_limit, sentence, cat(bytes), cat(*room));
}

}  // namespace

MemoryRoom memory_room(std::optional<uint64_t> budget_left, const std::string& root) {
  return MemoryRoom{.budget = budget_left,
                    .cgroup = cgroup_room(root),
                    .mem_available = available_memory(root),
                    .file_size = file_size_limit()};
}

Status check_room(uint64_t bytes, const MemoryRoom& room, const std::string& holders) {
  struct Limit {
    std::optional<uint64_t> room;
    const char* name;
    const char* way_out;
  };
  const Limit limits[] = {
      {room.budget, "polykv's memory budget", "raise the budget, or stop agents on old versions"},
      {room.cgroup, "the memory cgroup limit", "raise the container's or service's memory limit"},
      {room.mem_available, "MemAvailable (free memory of the machine)",
       "close other programs or use a shorter context"},
      {room.file_size, "RLIMIT_FSIZE", "raise it with 'ulimit -f unlimited'"},
  };
  for (const Limit& limit : limits) {
    const Status one = check_one(bytes, limit.room, limit.name, limit.way_out, holders);
    if (!one) return one;
  }
  return {};
}

}  // namespace polykv
