// The writer as the supervisor sees it: one child, one connection, one job at a time.
// A writer that dies costs the job at hand; the next one is given the image back and no prefill is
// redone.
#pragma once

#include <deque>
#include <functional>
#include <list>
#include <string>

#include "ipc/fd_socket.h"
#include "ipc/message.h"
#include "ipc/process.h"

namespace polykv {

struct WriterJob {
  Message request{"tokenize"};
  std::vector<UniqueFd> fds;                  // sent along
  std::function<Status(WriterJob&)> prepare;  // last step before it is sent; may be empty
  std::function<bool(const Message&, std::vector<UniqueFd>)> answer;  // true: the job is done
  std::function<void(const Error&)> failed;
  // Progress of what the writer has to do before any job: the model's image. May be empty.
  std::function<void(const Message&)> waits;
  uint64_t ticket = 0;
};

class WriterLink {
 public:
  enum class State { down, starting, packing, ready, busy, failed };

  struct Options {
    std::string program;  // absolute path of polykv-writer
    std::string runtime;
    unsigned n_threads = 1;
    std::string chat_format = {};  // "" = the one that the model's file says
    std::string image_cache = {};  // directory; "" = none
    bool by_hand = false;          // nobody is started: whoever says hello is the writer
  };
  explicit WriterLink(Options options) : options_(std::move(options)) {}

  Status start();
  // The writer said hello: pack a model, or take the image that is there already. pid: as the
  // kernel says it here; 0 if it cannot be seen from here.
  void connected(FdSocket socket, pid_t pid, const std::string& model_path, int image_fd,
                 const std::string& fingerprint);
  // Returns a number to drop it by.
  uint64_t submit(WriterJob job);
  // Whoever asked does not want it any more. One that waits in line never starts, and none of its
  // functions is called; one at hand is stopped by the writer between two layers, unless it is
  // finished by then.
  void drop(uint64_t ticket);
  // A packet came from the writer. Returns messages that belong to no job ("image", pack's
  // progress, error).
  std::optional<Message> received(Message message, std::vector<UniqueFd>& fds);
  // The image was taken over: the next job may go.
  void image_ready();
  // No writer can serve this model: every job, now and later, fails with this error.
  void give_up(const Error& error);
  // Connection or process ended. Starts a new writer unless they keep dying, or waits for the next
  // one that is started by hand. Returns what happened.
  std::string ended();

  State state() const { return state_; }
  const char* state_name() const;
  int fd() const { return socket_.fd(); }
  FdSocket& socket() { return socket_; }
  int pidfd() const { return child_.pidfd(); }
  bool by_hand() const { return options_.by_hand; }
  pid_t pid() const { return options_.by_hand ? peer_ : child_.pid(); }
  int restarts() const { return restarts_; }
  void terminate();

 private:
  static constexpr int kRestartsMax = 5;  // in a row, without a job done in between
  std::string fence();
  void send_next();
  void send_front();
  void fail_current(const Error& error);

  Options options_;
  State state_ = State::down;
  Child child_;
  pid_t peer_ = 0;  // of a writer that was started by hand
  FdSocket socket_;
  std::deque<WriterJob> jobs_;  // front: the job at hand if busy
  uint64_t next_job_ = 1;
  uint64_t last_ticket_ = 0;
  uint64_t current_ = 0;
  int restarts_ = 0;
  int failures_ = 0;
  Error failure_;  // of state failed
};

}  // namespace polykv
