// Requests and answers.
#include "launch/client.h"

#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <random>

namespace polykv {
namespace {

constexpr int kLastWordsMs = 2000;

bool readable(int fd) {
  pollfd wait{fd, POLLIN, 0};
  return fd >= 0 && ::poll(&wait, 1, 0) > 0;
}

Result<UniqueFd> watch_both(int first, int second) {
  UniqueFd watch(::epoll_create1(EPOLL_CLOEXEC));
  if (!watch) return fail_errno("creating an epoll descriptor");
  for (const int fd : {first, second}) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (fd >= 0 && ::epoll_ctl(watch.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
      return fail_errno("watching a descriptor");
    }
  }
  return watch;
}

bool is_part(const Message& message) {
  return message.type() == "progress" || message.type() == "token";
}

}  // namespace

Client::Client(ControlClient control, FdSocket link, UniqueFd watch, int interrupt_fd)
    : control_(std::move(control)),
      link_(std::move(link)),
      watch_(std::move(watch)),
      interrupt_fd_(interrupt_fd) {}

Result<Client> Client::connect(const std::string& runtime, int interrupt_fd,
                               const std::vector<std::string>& topics) {
  auto link = FdSocket::connect(runtime + "/fd");
  if (!link) return pass(link);
  const std::string identity = cat("client:", ::getpid(), ":", std::random_device{}());
  const std::string bus = topics.empty() ? "" : runtime + "/bus";
  auto control = ControlClient::connect(runtime + "/ctl", identity, bus, topics);
  if (!control) return pass(control);
  auto watch = watch_both(link->fd(), interrupt_fd);
  if (!watch) return pass(watch);
  return Client(std::move(*control), std::move(*link), std::move(*watch), interrupt_fd);
}

std::unexpected<Error> Client::why_interrupted() const {
  if (readable(interrupt_fd_)) return fail(ErrorCode::cancelled, "interrupted");
  return fail(ErrorCode::not_running, "the supervisor went away");
}

Result<std::string> Client::send(Message request) {
  std::string id = cat("r", next_id_++);
  request.set("id", id);
  if (auto sent = control_.send(request); !sent) return pass(sent);
  return id;
}

Result<Message> Client::receive() {
  auto message = receive_within(-1);
  if (!message) return pass(message);
  check(message->has_value(), "a wait without a limit ends with a message or an error");
  return std::move(**message);
}

Result<std::optional<Message>> Client::receive_within(int timeout_ms) {
  auto message = control_.receive(timeout_ms, watch_.get());
  if (!message || *message) return message;
  if (!readable(watch_.get())) return std::nullopt;
  if (readable(interrupt_fd_)) return why_interrupted();
  // A supervisor that ends closes the link, maybe before what it said last has come through.
  message = control_.receive(kLastWordsMs);
  if (message && !*message) return why_interrupted();
  return message;
}

Result<Message> Client::ask(Message request, const OnPart& on_part) {
  auto id = send(std::move(request));
  if (!id) return pass(id);
  while (true) {
    auto message = receive();
    if (!message) return message;
    if (message->text("id") != *id) continue;
    if (!is_part(*message)) {
      if (message->type() == "error") return std::unexpected(error_of(*message));
      return message;
    }
    if (on_part) on_part(*message);
  }
}

Result<std::vector<MemoryAnswer>> Client::ask_with_memory(Message request, int fd, size_t n_answers,
                                                          const OnPart& on_part) {
  const std::string id = cat("m", next_id_++);
  request.set("id", id);
  if (auto sent = link_.send(request.dump(), {fd}); !sent) return pass(sent);
  std::vector<MemoryAnswer> answers;
  while (answers.size() < n_answers) {
    pollfd waits[] = {{link_.fd(), POLLIN, 0}, {interrupt_fd_, POLLIN, 0}};
    if (::poll(waits, 2, -1) < 0 && errno != EINTR) return fail_errno("waiting for an answer");
    if (waits[1].revents != 0) return why_interrupted();
    if (waits[0].revents == 0) continue;
    auto packet = link_.receive();
    if (!packet) return why_interrupted();
    auto message = Message::parse(packet->text);
    if (!message) return pass(message);
    if (message->text("id") != id) continue;
    if (message->type() == "error") return std::unexpected(error_of(*message));
    if (!is_part(*message)) {
      answers.push_back({std::move(*message), std::move(packet->fds)});
    } else if (on_part) {
      on_part(*message);
    }
  }
  return answers;
}

}  // namespace polykv
