// Child processes by pidfd, and memory figures of /proc.
#include "ipc/process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <ctime>
#include <fstream>
#include <limits>

extern "C" {  // this glibc's header does not say so itself
#include <sys/pidfd.h>
}

namespace polykv {
namespace {

// What the child is started with; freed with the scope.
class SpawnSetup {
 public:
  SpawnSetup() {
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
  }
  ~SpawnSetup() {
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  }
  SpawnSetup(const SpawnSetup&) = delete;
  SpawnSetup& operator=(const SpawnSetup&) = delete;

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
};

// A child begins with default signals: what the parent blocks or ignores is not the child's
// business.
void reset_signals(SpawnSetup& setup) {
  sigset_t none, all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(&setup.attributes, &none);
  ::posix_spawnattr_setsigdefault(&setup.attributes, &all);
  ::posix_spawnattr_setflags(&setup.attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

void set_files(SpawnSetup& setup, int log) {
  ::posix_spawn_file_actions_addopen(&setup.actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  if (log >= 0) {
    ::posix_spawn_file_actions_adddup2(&setup.actions, log, STDOUT_FILENO);
    ::posix_spawn_file_actions_adddup2(&setup.actions, log, STDERR_FILENO);
  }
  // A descriptor that a library forgot to mark close-on-exec would keep leases and memory alive.
  ::posix_spawn_file_actions_addclosefrom_np(&setup.actions, STDERR_FILENO + 1);
}

Result<UniqueFd> open_log(const std::string& path) {
  if (path.empty()) return UniqueFd();
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!fd) return fail_errno(cat("open the log ", path));
  return fd;
}

std::vector<char*> argument_vector(const std::string& program,
                                   const std::vector<std::string>& arguments) {
  std::vector<char*> pointers{const_cast<char*>(program.c_str())};
  for (const std::string& a : arguments) pointers.push_back(const_cast<char*>(a.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

ExitState state_of(const siginfo_t& info) {
  return ExitState{.signalled = info.si_code != CLD_EXITED, .code = info.si_status};
}

// REQUIRES: `pid` is an unreaped child.
void kill_and_reap(pid_t pid) {
  ::kill(pid, SIGKILL);
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

// This process's, and the defaults whose names are not in it.
std::vector<char*> environment_vector(const std::vector<std::string>& defaults) {
  std::vector<char*> all;
  for (char** setting = environ; *setting != nullptr; ++setting) all.push_back(*setting);
  for (const std::string& setting : defaults) {
    if (::getenv(setting.substr(0, setting.find('=')).c_str()) == nullptr) {
      all.push_back(const_cast<char*>(setting.c_str()));  // posix_spawn does not write to it
    }
  }
  all.push_back(nullptr);
  return all;
}

}  // namespace

std::string describe(const ExitState& state) {
  if (!state.signalled) return cat("exit code ", state.code);
  const char* name = ::sigdescr_np(state.code);
  return cat("killed by signal ", state.code, " (", name ? name : "unknown", ")");
}

Result<Child> Child::start(const std::string& program, const std::vector<std::string>& arguments,
                           const std::string& log_path, const std::vector<std::string>& defaults) {
  if (program.empty() || program.front() != '/') {
    return fail(ErrorCode::io, cat("'", program, "' is not an absolute path of a program"),
                program);
  }
  const auto log = open_log(log_path);
  if (!log) return pass(log);
  SpawnSetup setup;
  reset_signals(setup);
  set_files(setup, log->get());
  std::vector<char*> argv = argument_vector(program, arguments);
  std::vector<char*> environment = environment_vector(defaults);
  Child child;
  const int error = ::posix_spawn(&child.pid_, program.c_str(), &setup.actions, &setup.attributes,
                                  argv.data(), environment.data());
  if (error != 0) {
    child.pid_ = -1;
    return fail_errno(cat("start ", program), error);
  }
  child.pidfd_ = UniqueFd(::pidfd_open(child.pid_, 0));
  if (child.pidfd_) return child;
  const int reason = errno;
  kill_and_reap(std::exchange(child.pid_, -1));
  return fail_errno(cat("watch ", program, " (pidfd_open)"), reason);
}

std::optional<ExitState> Child::try_wait() {
  if (ended_ || pid_ < 0) return ended_;
  siginfo_t info{};
  const int rc = ::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG);
  if (rc == 0 && info.si_pid != 0) ended_ = state_of(info);
  // With SIGCHLD ignored the kernel reaps by itself and the state is lost: still an end.
  if (rc != 0 && errno == ECHILD) ended_ = ExitState{.signalled = false, .code = 255};
  return ended_;
}

std::optional<ExitState> Child::wait(int timeout_ms) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
  while (pid_ >= 0 && !try_wait()) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) break;
    pollfd poll{pidfd_.get(), POLLIN, 0};
    ::poll(&poll, 1, static_cast<int>(left.count()));
  }
  return ended_;
}

void Child::signal(int number) {
  if (pid_ >= 0 && !ended_) ::pidfd_send_signal(pidfd_.get(), number, nullptr, 0);
}

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      pidfd_(std::move(other.pidfd_)),
      ended_(std::exchange(other.ended_, std::nullopt)) {}

Child& Child::operator=(Child&& other) noexcept {
  std::swap(pid_, other.pid_);
  std::swap(pidfd_, other.pidfd_);
  std::swap(ended_, other.ended_);
  return *this;
}

Child::~Child() {
  if (pid_ >= 0 && !ended_) kill_and_reap(pid_);
}

Result<MemoryUse> memory_use(pid_t pid) {
  const std::string path =
      cat("/proc/", pid == 0 ? std::string("self") : cat(pid), "/smaps_rollup");
  std::ifstream file(path);
  MemoryUse use;
  bool found = false;
  for (std::string key; file >> key;) {
    uint64_t kib = 0;
    if (key == "Pss:" && file >> kib) use.pss = kib * 1024, found = true;
    if ((key == "Private_Clean:" || key == "Private_Dirty:") && file >> kib) {
      use.private_bytes += kib * 1024;
    }
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  if (!found) return fail(ErrorCode::io, cat("no memory figures in ", path), cat(pid));
  return use;
}

Result<UniqueFd> watch_process(pid_t pid) {
  UniqueFd fd(::pidfd_open(pid, 0));
  if (!fd) return fail_errno(cat("watching process ", pid));
  return fd;
}

int64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

std::string program_directory() {
  std::string path(4096, '\0');
  const ssize_t size = ::readlink("/proc/self/exe", path.data(), path.size());
  path.resize(size > 0 ? static_cast<size_t>(size) : 0);
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

}  // namespace polykv
