// Job queue and life cycle of the writer.
#include "launch/writer_link.h"

#include <algorithm>
#include <csignal>

#include "ipc/log.h"

namespace polykv {

Status WriterLink::start() {
  state_ = State::starting;
  if (options_.by_hand) {
    log_line(LogLevel::info,
             cat("waiting for a writer: polykv-writer --runtime ", options_.runtime));
    return {};
  }
  std::vector<std::string> arguments = {"--runtime", options_.runtime, "--threads",
                                        cat(options_.n_threads)};
  if (!options_.chat_format.empty()) {
    arguments.insert(arguments.end(), {"--chat-format", options_.chat_format});
  }
  if (!options_.image_cache.empty()) {
    arguments.insert(arguments.end(), {"--image-cache", options_.image_cache});
  }
  // libtorch's threads sleep when they wait: spinning takes the cores of the writer's own threads
  // and of the agents.
  auto child = Child::start(options_.program, arguments, "", {"OMP_WAIT_POLICY=passive"});
  if (!child) return pass(child);
  child_ = std::move(*child);
  return {};
}

void WriterLink::connected(FdSocket socket, pid_t pid, const std::string& model_path, int image_fd,
                           const std::string& fingerprint) {
  socket_ = std::move(socket);
  peer_ = pid;
  state_ = State::packing;
  if (image_fd < 0) {
    Message pack("pack");
    pack.set("path", model_path);
    (void)socket_.send(pack.dump());  // a broken connection ends in ended()
    return;
  }
  Message have("have");
  have.set("fingerprint", fingerprint);
  (void)socket_.send(have.dump(), {image_fd});
  image_ready();
}

uint64_t WriterLink::submit(WriterJob job) {
  const uint64_t ticket = job.ticket = ++last_ticket_;
  if (state_ == State::failed) {
    job.failed(failure_);
    return ticket;
  }
  jobs_.push_back(std::move(job));
  send_next();
  return ticket;
}

void WriterLink::drop(uint64_t ticket) {
  const auto found = std::ranges::find(jobs_, ticket, &WriterJob::ticket);
  if (found == jobs_.end()) return;
  if (state_ == State::busy && found == jobs_.begin()) {
    (void)socket_.try_send(Message("drop_job").set_id("job", current_).dump());
  } else {
    jobs_.erase(found);
  }
}

void WriterLink::image_ready() {
  state_ = State::ready;
  send_next();
}

void WriterLink::send_next() {
  while (state_ == State::ready && !jobs_.empty()) {
    WriterJob& job = jobs_.front();
    if (!job.prepare) return send_front();
    const Status good = job.prepare(job);
    if (good) return send_front();
    const WriterJob refused = std::move(jobs_.front());
    jobs_.pop_front();
    refused.failed(good.error());
  }
}

void WriterLink::send_front() {
  WriterJob& job = jobs_.front();
  current_ = next_job_++;
  job.request.set_id("job", current_);
  std::vector<int> fds;
  fds.reserve(job.fds.size());
  for (const UniqueFd& fd : job.fds) fds.push_back(fd.get());
  state_ = State::busy;
  (void)socket_.send(job.request.dump(), fds);  // a broken connection ends in ended()
}

std::optional<Message> WriterLink::received(Message message, std::vector<UniqueFd>& fds) {
  if (state_ == State::packing && message.type() == "progress") {
    for (const WriterJob& job : jobs_) {
      if (job.waits) job.waits(message);
    }
    return std::nullopt;
  }
  const bool belongs = state_ == State::busy && message.has("job") && message.id("job") == current_;
  if (!belongs) return message;
  if (message.type() == "error") {
    fail_current(error_of(message));
    return std::nullopt;
  }
  if (!jobs_.front().answer(message, std::move(fds))) return std::nullopt;
  jobs_.pop_front();
  failures_ = 0;
  state_ = State::ready;
  send_next();
  return std::nullopt;
}

void WriterLink::fail_current(const Error& error) {
  WriterJob job = std::move(jobs_.front());
  jobs_.pop_front();
  if (state_ == State::busy) state_ = State::ready;
  job.failed(error);
  send_next();
}

// One that was started by hand is fenced by the end of its connection: what it sends is lost.
std::string WriterLink::fence() {
  if (options_.by_hand) {
    return cat("the writer (pid ", std::exchange(peer_, 0), ", started by hand) went away");
  }
  child_.signal(SIGKILL);  // a connection that ended before its process
  const auto exit = child_.wait(2000);
  return cat("the writer (pid ", child_.pid(),
             ") ended: ", exit ? describe(*exit) : "no exit state");
}

std::string WriterLink::ended() {
  const bool was_busy = state_ == State::busy;
  const std::string story = fence();
  socket_ = FdSocket();
  state_ = State::down;
  if (was_busy)
    fail_current({ErrorCode::writer_lost, story + "; its job is lost, ask again", {}, {}});
  ++restarts_;
  if (options_.by_hand) {
    (void)start();
    return story + "; the next one that is started is taken";
  }
  ++failures_;
  if (failures_ > kRestartsMax || !start()) {
    give_up({ErrorCode::writer_lost,
             cat("the writer died too often and is not started again; at last: ", story),
             cat(failures_), cat(kRestartsMax)});
    return story + "; it is not started again";
  }
  return cat(story, "; a new one was started (pid ", child_.pid(), ")");
}

void WriterLink::give_up(const Error& error) {
  terminate();
  failure_ = error;
  while (!jobs_.empty()) fail_current(error);
}

const char* WriterLink::state_name() const {
  constexpr const char* kNames[] = {"down", "starting", "packing", "ready", "busy", "failed"};
  if (options_.by_hand && state_ == State::starting) return "awaited";
  return kNames[static_cast<int>(state_)];
}

void WriterLink::terminate() {
  state_ = State::failed;
  if (child_.pid() > 0) child_.signal(SIGTERM);
  (void)child_.wait(2000);
  socket_ = FdSocket();
  child_ = Child();
  peer_ = 0;
}

}  // namespace polykv
