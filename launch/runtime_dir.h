// The runtime directory: 0700, one supervisor at a time, nothing left behind.
//   ctl (ROUTER), bus (XPUB), fd (SEQPACKET), lock (held by the running supervisor)
#pragma once

#include <string>

#include "ipc/fd.h"

namespace polykv {

class RuntimeDir {
 public:
  // Creates the directory (or takes an own, 0700 one) and locks it. runtime_busy names the holder's
  // pid; path_too_long if a socket in it would not fit.
  static Result<RuntimeDir> take(const std::string& path);
  // A fresh directory under $XDG_RUNTIME_DIR or /tmp, for a one-shot run.
  static Result<RuntimeDir> make_private();
  ~RuntimeDir();  // removes the sockets, the lock and the directory if it made it
  RuntimeDir(RuntimeDir&& other) noexcept;
  RuntimeDir& operator=(RuntimeDir&& other) noexcept;

  const std::string& path() const { return path_; }
  std::string control_path() const { return path_ + "/ctl"; }
  std::string bus_path() const { return path_ + "/bus"; }
  std::string fd_path() const { return path_ + "/fd"; }

 private:
  RuntimeDir() = default;
  std::string path_;
  bool made_ = false;
  UniqueFd lock_;
};

// $POLYKV_RUNTIME, else $XDG_RUNTIME_DIR/polykv, else /tmp/polykv-<uid>.
std::string default_runtime_path();

}  // namespace polykv
