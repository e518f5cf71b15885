// Child processes by pidfd, and what the kernel says of a process's memory.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ipc/fd.h"

namespace polykv {

struct ExitState {
  bool signalled = false;
  int code = 0;  // exit code, or the signal's number
};
std::string describe(const ExitState& state);  // "exit code 3", "killed by signal 9 (Killed)"

// A started child. The destructor kills and reaps a child that still runs.
class Child {
 public:
  // posix_spawn of an absolute path; log_path (if not empty) takes stdout and stderr, appended.
  // The child gets SIGTERM's default action and an empty signal mask. defaults: "NAME=value" of
  // the environment, where the name is not set there yet.
  static Result<Child> start(const std::string& program, const std::vector<std::string>& arguments,
                             const std::string& log_path = "",
                             const std::vector<std::string>& defaults = {});
  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }  // readable once the child has ended
  // Reaps if ended; nullopt while it runs.
  std::optional<ExitState> try_wait();
  // Waits up to timeout_ms for the end.
  std::optional<ExitState> wait(int timeout_ms);
  void signal(int number);

  Child() = default;
  Child(Child&& other) noexcept;
  Child& operator=(Child&& other) noexcept;
  ~Child();

 private:
  pid_t pid_ = -1;
  UniqueFd pidfd_;
  std::optional<ExitState> ended_;
};

// A descriptor that is readable once the process has ended; io if there is no such process.
Result<UniqueFd> watch_process(pid_t pid);

// Of /proc/<pid>/smaps_rollup, in bytes. pid 0: the calling process.
struct MemoryUse {
  uint64_t pss = 0;
  uint64_t private_bytes = 0;  // Private_Clean + Private_Dirty
};
Result<MemoryUse> memory_use(pid_t pid = 0);

// CLOCK_MONOTONIC in nanoseconds: one clock for all processes of a machine.
int64_t monotonic_ns();

// Directory of the running program: where its siblings are installed.
std::string program_directory();

}  // namespace polykv
