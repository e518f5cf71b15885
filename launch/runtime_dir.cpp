// Directory, permissions, lock, clean-up.
#include "launch/runtime_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <vector>

#include "ipc/fd_socket.h"

namespace polykv {
namespace {

// bad permissions or a foreign owner would let others in: refuse rather than repair.
Status check_directory(const std::string& path) {
  struct stat info{};
  if (::lstat(path.c_str(), &info) != 0) return fail_errno(cat("runtime directory ", path));
  if (!S_ISDIR(info.st_mode) || info.st_uid != ::geteuid() || (info.st_mode & 077) != 0) {
    return fail(ErrorCode::io,
                cat("runtime directory ", path,
                    " must be a directory of this user with mode 0700: choose another with "
                    "--runtime, or correct it with chmod 700"),
                path, "0700");
  }
  return {};
}

Status write_pid(int fd) {
  const std::string pid = cat(::getpid(), "\n");
  if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, pid.data(), pid.size(), 0) < 0) {
    return fail_errno("writing the runtime directory's lock");
  }
  return {};
}

std::string holder_of(int fd) {
  std::vector<char> text(16);
  const ssize_t n = ::pread(fd, text.data(), text.size() - 1, 0);
  std::string pid(text.data(), n > 0 ? static_cast<size_t>(n) : 0);
  while (!pid.empty() && pid.back() == '\n') pid.pop_back();
  return pid.empty() ? "unknown" : pid;
}

std::string base_directory() {
  const char* xdg = std::getenv("XDG_RUNTIME_DIR");
  return xdg != nullptr && *xdg != '\0' ? xdg : "/tmp";
}

}  // namespace

Result<RuntimeDir> RuntimeDir::take(const std::string& path) {
  if (auto fits = check_socket_path(path + "/ctl"); !fits) return pass(fits);
  RuntimeDir directory;
  directory.made_ = ::mkdir(path.c_str(), 0700) == 0;
  if (!directory.made_ && errno != EEXIST) {
    return fail_errno(cat("creating the runtime directory ", path));
  }
  if (auto good = check_directory(path); !good) return pass(good);

  const std::string lock_path = path + "/lock";
  UniqueFd lock(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock) return fail_errno(cat("opening ", lock_path));
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    const std::string pid = holder_of(lock.get());
    return fail(ErrorCode::runtime_busy,
                cat("another supervisor (pid ", pid, ") owns the runtime directory ", path,
                    ": stop it with 'polykv down', or choose another with --runtime"),
                pid);
  }
  if (auto written = write_pid(lock.get()); !written) return pass(written);
  directory.path_ = path;
  directory.lock_ = std::move(lock);
  return directory;
}

Result<RuntimeDir> RuntimeDir::make_private() {
  std::string path = base_directory() + "/polykv-run-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) return fail_errno(cat("creating ", path));
  auto directory = take(path);
  if (directory) directory->made_ = true;
  return directory;
}

RuntimeDir::RuntimeDir(RuntimeDir&& other) noexcept
    : path_(std::exchange(other.path_, {})), made_(other.made_), lock_(std::move(other.lock_)) {}

RuntimeDir& RuntimeDir::operator=(RuntimeDir&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(made_, other.made_);
  std::swap(lock_, other.lock_);
  return *this;
}

RuntimeDir::~RuntimeDir() {
  if (path_.empty()) return;
  for (const char* name : {"/ctl", "/bus", "/fd", "/lock"}) ::unlink((path_ + name).c_str());
  if (made_) ::rmdir(path_.c_str());
}

std::string default_runtime_path() {
  const char* named = std::getenv("POLYKV_RUNTIME");
  if (named != nullptr && *named != '\0') return named;
  const std::string base = base_directory();
  return base == "/tmp" ? cat("/tmp/polykv-", ::geteuid()) : base + "/polykv";
}

}  // namespace polykv
