// A supervisor in this process (its own thread) and a client of it: what `run`, `up` and `eval`
// stand on.
#pragma once

#include <memory>
#include <thread>

#include "launch/client.h"
#include "launch/supervisor.h"

namespace polykv {

// SIGINT and SIGTERM as a descriptor. Make it before any thread: it blocks both signals.
Result<UniqueFd> block_signals();

class Session {
 public:
  // runtime: "" = a private directory that is removed at the end.
  static Result<std::unique_ptr<Session>> start(SupervisorOptions options,
                                                const std::string& runtime, int interrupt_fd);
  ~Session();  // ends everything

  Client& client() { return *client_; }
  const std::string& runtime() const { return runtime_; }
  // Waits until the supervisor ends by itself (a shutdown request, a failure) or `interrupt_fd` is
  // readable.
  Status wait();
  // Ends the supervisor and its children. Its own failure, if it had one; otherwise `otherwise`.
  Status stop(Status otherwise = {});

 private:
  Session() = default;
  std::string runtime_;
  std::unique_ptr<Supervisor> supervisor_;
  std::unique_ptr<Client> client_;
  UniqueFd ended_;  // readable when the supervisor's thread is done
  Status outcome_;
  std::thread thread_;
  int interrupt_fd_ = -1;
};

}  // namespace polykv
