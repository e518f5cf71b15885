// AF_UNIX SEQPACKET sockets with file descriptors.
#include "ipc/fd_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>

namespace polykv {
namespace {

constexpr size_t kPathMax = sizeof(sockaddr_un::sun_path) - 1;  // 107 and the final zero
constexpr int kBacklog = 128;

// Room for the control data of one packet, aligned as the kernel wants it.
struct ControlBuffer {
  alignas(cmsghdr) char bytes[CMSG_SPACE(kPacketFdsMax * sizeof(int))];
};

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::copy(path.begin(), path.end(), address.sun_path);
  return address;
}

Result<UniqueFd> new_socket() {
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!fd) return fail_errno("create a Unix socket");
  return fd;
}

Status check_packet(const std::string& text, size_t n_fds) {
  if (text.empty() || text.size() > kPacketBytesMax) {
    return fail(ErrorCode::bad_message,
                cat("a packet takes 1 to ", kPacketBytesMax, " bytes, not ", text.size()),
                cat(text.size()), cat(kPacketBytesMax));
  }
  if (n_fds > kPacketFdsMax) {
    return fail(ErrorCode::bad_message,
                cat("a packet carries at most ", kPacketFdsMax, " file descriptors, not ", n_fds),
                cat(n_fds), cat(kPacketFdsMax));
  }
  return {};
}

void attach_fds(msghdr& message, ControlBuffer& control, const std::vector<int>& fds) {
  if (fds.empty()) return;
  message.msg_control = control.bytes;
  message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
  std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
}

Status send_packet(int fd, const std::string& text, const std::vector<int>& fds, int flags) {
  if (const Status ok = check_packet(text, fds.size()); !ok) return ok;
  iovec part{const_cast<char*>(text.data()), text.size()};
  ControlBuffer control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  attach_fds(message, control, fds);
  ssize_t sent = -1;
  do sent = ::sendmsg(fd, &message, flags | MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  if (sent >= 0) return {};
  if (errno == EAGAIN) {
    return fail(ErrorCode::timed_out, "the peer does not read: its socket buffer is full");
  }
  return fail_errno("send a packet");
}

// Owns every descriptor that came along, before anything else can fail.
std::vector<UniqueFd> take_fds(msghdr& message) {
  std::vector<UniqueFd> fds;
  for (cmsghdr* h = CMSG_FIRSTHDR(&message); h != nullptr; h = CMSG_NXTHDR(&message, h)) {
    if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(int));
      fds.emplace_back(fd);
    }
  }
  return fds;
}

Status check_complete(const msghdr& message) {
  if (message.msg_flags & MSG_TRUNC) {
    return fail(ErrorCode::bad_message,
                cat("a packet of more than ", kPacketBytesMax, " bytes was cut short"), "",
                cat(kPacketBytesMax));
  }
  if (message.msg_flags & MSG_CTRUNC) {
    return fail(ErrorCode::bad_message,
                cat("a packet's file descriptors did not all arrive: more than ", kPacketFdsMax,
                    ", or past this process's limit of open files (ulimit -n)"),
                "", cat(kPacketFdsMax));
  }
  return {};
}

}  // namespace

Status check_socket_path(const std::string& path) {
  if (path.empty()) return fail(ErrorCode::usage, "a socket's path is empty");
  if (path.size() <= kPathMax) return {};
  return fail(ErrorCode::path_too_long,
              cat("socket path of ", path.size(), " characters: ", path, "; the kernel takes ",
                  kPathMax, ". Choose a shorter runtime directory"),
              cat(path.size()), cat(kPathMax));
}

Status remove_old_socket(const std::string& path) {
  struct stat info{};
  if (::lstat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return {};
    return fail_errno(cat("look for an old socket at ", path));
  }
  if (!S_ISSOCK(info.st_mode)) {
    return fail(ErrorCode::io, cat(path, " exists and is not a socket; move it away"), path);
  }
  if (::unlink(path.c_str()) != 0) return fail_errno(cat("remove the old socket ", path));
  return {};
}

Result<FdSocket> FdSocket::connect(const std::string& path) {
  if (const Status ok = check_socket_path(path); !ok) return pass(ok);
  auto fd = new_socket();
  if (!fd) return pass(fd);
  const sockaddr_un address = address_of(path);
  int rc = -1;
  do rc = ::connect(fd->get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  while (rc != 0 && errno == EINTR);
  if (rc == 0) return FdSocket(std::move(*fd));
  if (errno == ENOENT || errno == ECONNREFUSED) {
    return fail(ErrorCode::not_running,
                cat("nobody listens at ", path, ": start the runtime with 'polykv up'"), path);
  }
  return fail_errno(cat("connect to ", path));
}

Status FdSocket::send(const std::string& text, const std::vector<int>& fds) {
  return send_packet(fd_.get(), text, fds, 0);
}

Status FdSocket::try_send(const std::string& text, const std::vector<int>& fds) {
  return send_packet(fd_.get(), text, fds, MSG_DONTWAIT);
}

Result<Packet> FdSocket::receive() {
  Packet packet;
  packet.text.resize(kPacketBytesMax);
  ControlBuffer control{};
  iovec part{packet.text.data(), packet.text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof(control.bytes);
  ssize_t size = -1;
  do size = ::recvmsg(fd_.get(), &message, MSG_CMSG_CLOEXEC);
  while (size < 0 && errno == EINTR);
  if (size < 0 && errno != ECONNRESET) return fail_errno("receive a packet");
  if (size >= 0) packet.fds = take_fds(message);
  if (size <= 0) return fail(ErrorCode::not_running, "the peer closed the connection");
  if (const Status ok = check_complete(message); !ok) return pass(ok);
  packet.text.resize(static_cast<size_t>(size));
  return packet;
}

Result<PeerCredentials> FdSocket::peer() const {
  ucred who{};
  socklen_t size = sizeof(who);
  if (::getsockopt(fd_.get(), SOL_SOCKET, SO_PEERCRED, &who, &size) != 0) {
    return fail_errno("ask the kernel who the peer is");
  }
  return PeerCredentials{who.pid, who.uid};
}

Result<FdListener> FdListener::bind(const std::string& path) {
  if (const Status ok = check_socket_path(path); !ok) return pass(ok);
  auto fd = new_socket();
  if (!fd) return pass(fd);
  if (const Status ok = remove_old_socket(path); !ok) return pass(ok);
  const sockaddr_un address = address_of(path);
  if (::bind(fd->get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return fail_errno(cat("bind ", path));
  }
  if (::listen(fd->get(), kBacklog) != 0) return fail_errno(cat("listen at ", path));
  FdListener listener;
  listener.fd_ = std::move(*fd);
  return listener;
}

Result<FdSocket> FdListener::accept() {
  int fd = -1;
  do fd = ::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC);
  while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
  if (fd < 0) return fail_errno("accept a connection");
  return FdSocket(UniqueFd(fd));
}

}  // namespace polykv
