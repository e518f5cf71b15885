// A client of a running supervisor: requests over ZeroMQ, requests with memory over SEQPACKET. The
// SEQPACKET connection also tells at once when the supervisor goes away.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ipc/control.h"
#include "ipc/fd_socket.h"

namespace polykv {

// The answer to a request that carries memory.
struct MemoryAnswer {
  Message message{"ok"};
  std::vector<UniqueFd> fds;
};

class Client {
 public:
  using OnPart = std::function<void(const Message&)>;  // "progress" and "token" on the way

  // not_running if no supervisor listens in `runtime`. interrupt_fd: readable = give up
  // (cancelled); -1 = none.
  // topics: of the bus, to be received beside the answers.
  static Result<Client> connect(const std::string& runtime, int interrupt_fd,
                                const std::vector<std::string>& topics = {});

  // Sends a request under a new id and returns the id.
  Result<std::string> send(Message request);
  // The next message of the supervisor. Errors: cancelled, not_running.
  Result<Message> receive();
  // The same; nullopt if none came in that time.
  Result<std::optional<Message>> receive_within(int timeout_ms);
  // send, then the final answer; an "error" answer is returned as the error it is.
  Result<Message> ask(Message request, const OnPart& on_part = {});
  // The same over the connection for memory. `fd` goes along. The answer that ends it: `last`
  // answers.
  Result<std::vector<MemoryAnswer>> ask_with_memory(Message request, int fd, size_t n_answers = 1,
                                                    const OnPart& on_part = {});

  // Readable once the supervisor goes away, or when interrupted.
  int end_fd() const { return watch_.get(); }

 private:
  Client(ControlClient control, FdSocket link, UniqueFd watch, int interrupt_fd);
  std::unexpected<Error> why_interrupted() const;
  ControlClient control_;
  FdSocket link_;
  UniqueFd watch_;  // epoll over the connection and interrupt_fd
  int interrupt_fd_;
  uint64_t next_id_ = 1;
};

}  // namespace polykv
