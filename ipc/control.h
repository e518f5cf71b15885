// The control plane's sockets: ROUTER/DEALER for requests, XPUB/SUB for events, over ipc:// in the
// runtime directory. One thread owns a socket. The bus is only a hint: subscribe, take a snapshot,
// drop what is older, snapshot again on a gap.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ipc/message.h"

namespace polykv {

// A request as the supervisor sees it: sender's routing id, kernel-verified uid, raw text.
struct Request {
  std::string sender;
  uid_t uid = 0;
  std::string text;
};

// ROUTER + XPUB, bound. A full or vanished peer costs a dropped message, never a block.
class ControlServer {
 public:
  // Paths of socket files, checked against the kernel's limit. Raises this process's limit of open
  // files to what it may have: libzmq aborts when it cannot accept a connection for want of a
  // descriptor.
  static Result<ControlServer> bind(const std::string& control_path, const std::string& bus_path);
  // The next request, or nullopt when none waits.
  std::optional<Request> receive();
  bool send(const std::string& to, const Message& message);  // false: peer gone or full
  void publish(const std::string& topic, const Message& message);
  // Senders of requests whose connection has ended since the last call. poll_fd() tells of them.
  std::vector<std::string> take_vanished();
  int poll_fd() const;  // readable (level-triggered) as long as receive() may have something

  ControlServer(ControlServer&&) noexcept;
  ControlServer& operator=(ControlServer&&) noexcept;
  ~ControlServer();

 private:
  struct State;
  explicit ControlServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// DEALER (+ SUB when a bus is given), connected.
class ControlClient {
 public:
  // not_running if nobody listens there. identity: unique per process, 1 to 200 bytes. topics:
  // prefixes; "" is every topic.
  static Result<ControlClient> connect(const std::string& control_path, const std::string& identity,
                                       const std::string& bus_path = "",
                                       const std::vector<std::string>& topics = {});
  Status send(const Message& message);  // timed_out if the server takes nothing for 5 s
  // Waits for a message from the server or the bus; nullopt after timeout_ms (-1: no limit).
  // also_fd (if
  // >= 0) ends the wait, too, when readable. not_running for good once the server's end is gone.
  Result<std::optional<Message>> receive(int timeout_ms, int also_fd = -1);

  ControlClient(ControlClient&&) noexcept;
  ControlClient& operator=(ControlClient&&) noexcept;
  ~ControlClient();

 private:
  struct State;
  explicit ControlClient(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace polykv
