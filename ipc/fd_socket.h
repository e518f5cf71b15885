// AF_UNIX SEQPACKET: messages with file descriptors. It carries memory (SCM_RIGHTS), and the
// connection itself is the lease: it ends by close, EOF or death, and the kernel tells.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "ipc/fd.h"

namespace polykv {

inline constexpr size_t kPacketBytesMax = 64 * 1024;
inline constexpr size_t kPacketFdsMax = 250;  // the kernel's SCM_MAX_FD is 253

struct Packet {
  std::string text;           // one JSON message (ipc/message.h)
  std::vector<UniqueFd> fds;  // close-on-exec
};

struct PeerCredentials {
  pid_t pid = 0;
  uid_t uid = 0;
};

class FdSocket {
 public:
  FdSocket() = default;
  explicit FdSocket(UniqueFd fd) : fd_(std::move(fd)) {}

  // path_too_long past the kernel's 107 characters; not_running if nobody listens there.
  static Result<FdSocket> connect(const std::string& path);

  // Blocks until the packet is handed over; io on a broken connection (never SIGPIPE).
  Status send(const std::string& text, const std::vector<int>& fds = {});
  // Like send, but fails at once (timed_out) if the peer's buffer is full.
  Status try_send(const std::string& text, const std::vector<int>& fds = {});
  // Blocks for one packet. not_running at EOF; bad_message if it was cut short or carries too many
  // fds.
  Result<Packet> receive();

  Result<PeerCredentials> peer() const;
  int fd() const { return fd_.get(); }
  explicit operator bool() const { return static_cast<bool>(fd_); }

 private:
  UniqueFd fd_;
};

class FdListener {
 public:
  FdListener() = default;
  // Binds a new socket file (an old one is removed: the directory is the supervisor's own).
  static Result<FdListener> bind(const std::string& path);
  Result<FdSocket> accept();  // REQUIRES: poll said readable, else blocks
  int fd() const { return fd_.get(); }

 private:
  UniqueFd fd_;
};

// path_too_long with the length and the limit, or ok: for every socket path, ZeroMQ's too.
Status check_socket_path(const std::string& path);

// Removes the socket file that a dead process left; io if something else lies at that path.
Status remove_old_socket(const std::string& path);

}  // namespace polykv
