// The machine: processor, memory, limits, namespaces, clock.
#include <sys/resource.h>
#include <sys/utsname.h>

#include <array>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <span>
#include <thread>

#include "ipc/memory.h"
#include "launch/doctor.h"
#include "launch/registry.h"

namespace polykv {
namespace {

constexpr uint64_t kDescriptorsLeast = 128;   // a writer, a few agents and clients
constexpr uint64_t kDescriptorsGood = 2048;   // 256 agents
constexpr uint64_t kMemoryLeast = 256 << 20;  // the smallest model there is
constexpr uint64_t kMemoryGood = uint64_t{2} << 30;

// A namespace's number, as the kernel numbers the ones that it begins with.
struct Namespace {
  const char* kind;
  const char* initial;
};
constexpr std::array kNamespaces{Namespace{"pid", "pid:[4026531836]"},
                                 Namespace{"user", "user:[4026531837]"},
                                 Namespace{"time", "time:[4026531834]"}};

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "a processor without a name";
}

Finding look_at_cpu() {
  return {
      "processor", Verdict::ok,
      cat(cpu_name(), ", ", std::max(1U, std::thread::hardware_concurrency()), " cores for us")};
}

uint64_t limit_of(int resource) {
  rlimit limit{};
  if (::getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0) return 0;
  return limit.rlim_max;
}

Finding look_at_namespaces() {
  std::string own;
  for (const Namespace& space : kNamespaces) {
    std::error_code error;
    const auto here = std::filesystem::read_symlink(cat("/proc/self/ns/", space.kind), error);
    if (!error && here != space.initial) own += cat(own.empty() ? "" : ", ", space.kind);
  }
  if (own.empty()) return {"namespaces", Verdict::ok, "the machine's own"};
  return {"namespaces", Verdict::ok, cat("of its own: ", own),
          "agents and clients from outside see other pids and users; they need the runtime "
          "directory and the same user"};
}

// libzmq and memfds need neither; people who know other systems ask.
Finding look_at_dev_shm() { return {"/dev/shm", Verdict::ok, "not used"}; }

Finding judge_file_size(const std::optional<uint64_t>& limit) {
  if (!limit) return {"file size limit", Verdict::ok, "none"};
  const bool enough = *limit >= kMemoryGood;
  return {"file size limit", enough ? Verdict::ok : Verdict::problem,
          cat(megabytes(*limit), " (RLIMIT_FSIZE), for each segment and the model image"),
          enough ? "" : "shared memory is a file to the kernel: ulimit -f unlimited",
          ErrorCode::memory_limit};
}

}  // namespace

Finding judge_descriptors(uint64_t limit) {
  Finding finding{"open files", Verdict::ok, cat("up to ", limit, " (RLIMIT_NOFILE)"), {}};
  if (limit == RLIM_INFINITY) finding.found = "no limit";
  if (limit >= kDescriptorsGood) return finding;
  const bool few = limit < kDescriptorsLeast;
  finding.verdict = few ? Verdict::problem : Verdict::warning;
  finding.advice = cat("each agent and client takes several: ulimit -Hn ", kDescriptorsGood,
                       ", or LimitNOFILE= in the service unit");
  return finding;
}

Finding judge_memory(const MemoryRoom& room) {
  Finding finding{"memory", Verdict::ok, "", {}, ErrorCode::memory_limit};
  const uint64_t available = room.mem_available.value_or(0);
  const uint64_t free = std::min(available, room.cgroup.value_or(available));
  finding.found = cat(megabytes(available), " available, ");
  finding.found +=
      room.cgroup ? cat(megabytes(*room.cgroup), " left in the cgroup") : "no cgroup limit";
  if (free >= kMemoryGood) return finding;
  finding.verdict = free < kMemoryLeast ? Verdict::problem : Verdict::warning;
  finding.advice = "end other programs, raise the cgroup's memory.max, or use a small model";
  return finding;
}

// pidfd_open (5.3) and closing all descriptors of a child (5.9) are needed.
Finding judge_kernel(const std::string& release) {
  int major = 0, minor = 0;
  const char* end = release.data() + release.size();
  const auto first = std::from_chars(release.data(), end, major);
  if (first.ptr != end) (void)std::from_chars(first.ptr + 1, end, minor);
  if (major > 5 || (major == 5 && minor >= 9)) return {"kernel", Verdict::ok, "Linux " + release};
  return {"kernel", Verdict::problem, "Linux " + release, "Linux 5.9 or newer is needed"};
}

Finding judge_clock(const std::string& source) {
  const std::string found = source.empty() ? "monotonic" : cat("monotonic, from ", source);
  const bool slow = source == "hpet" || source == "acpi_pm" || source == "jiffies";
  if (!slow) return {"clock", Verdict::ok, found};
  return {"clock", Verdict::warning, found, "reading it is slow; times in reports are less exact"};
}

Finding look_at_sealing() {
  constexpr std::array<std::byte, 4> kBytes{};
  auto sealed = share_bytes("polykv-doctor", std::span(kBytes), memory_room());
  auto view = sealed ? SharedView::map(std::move(*sealed)) : Result<SharedView>(pass(sealed));
  if (view) return {"sealed memory", Verdict::ok, "memfds can be made, sealed and mapped"};
  return {"sealed memory", Verdict::problem, view.error().message,
          "memfd_create and F_ADD_SEALS must be allowed (seccomp, old kernels)", view.error().code};
}

Findings look_at_machine() {
  utsname system{};
  ::uname(&system);
  const std::string clock =
      first_line("/sys/devices/system/clocksource/clocksource0/current_clocksource");
  const MemoryRoom room = memory_room();
  return {look_at_cpu(),
          judge_kernel(&system.release[0]),
          judge_memory(room),
          judge_file_size(room.file_size),
          judge_descriptors(limit_of(RLIMIT_NOFILE)),
          look_at_dev_shm(),
          look_at_namespaces(),
          judge_clock(clock)};
}

}  // namespace polykv
