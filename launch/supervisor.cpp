// The supervisor's event loop and its end.
#include "launch/supervisor.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "ipc/log.h"

namespace polykv {

Supervisor::Supervisor(SupervisorOptions options, RuntimeDir directory)
    : options_(std::move(options)),
      directory_(std::move(directory)),
      writer_({.program = options_.writer_program,
               .runtime = directory_.path(),
               .n_threads = options_.writer_threads}) {}

Supervisor::~Supervisor() = default;

Result<std::unique_ptr<Supervisor>> Supervisor::start(SupervisorOptions options,
                                                      RuntimeDir directory) {
  std::unique_ptr<Supervisor> supervisor(new Supervisor(std::move(options), std::move(directory)));
  supervisor->stop_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!supervisor->stop_) return fail_errno("creating an eventfd");
  auto listener = FdListener::bind(supervisor->directory_.fd_path());
  if (!listener) return pass(listener);
  supervisor->listener_ = std::move(*listener);
  auto control =
      ControlServer::bind(supervisor->directory_.control_path(), supervisor->directory_.bus_path());
  if (!control) return pass(control);
  supervisor->control_ = std::make_unique<ControlServer>(std::move(*control));
  if (auto started = supervisor->writer_.start(); !started) return pass(started);
  return supervisor;
}

Status Supervisor::run() {
  Status served;
  while (running_ && served) served = wait_and_serve();
  shut_down();
  if (fatal_) return std::unexpected(*fatal_);
  return served;
}

// One round: wait for anything, serve everything that is ready.
Status Supervisor::wait_and_serve() {
  while (auto request = control_->receive()) handle_request(*request);
  if (!running_) return {};
  std::vector<pollfd> waits;
  const auto watch = [&](int fd) { waits.push_back({fd, POLLIN, 0}); };  // a negative fd is ignored
  watch(stop_.get());
  watch(listener_.fd());
  watch(control_->poll_fd());
  watch(writer_.fd());
  watch(writer_.pidfd());
  const size_t first_link = waits.size();
  for (const Link& link : links_) watch(link.socket.fd());
  const size_t n_links = links_.size();
  for (const auto& [name, agent] : agents_.all()) {
    if (agent.state != AgentRecord::State::ended) watch(agent.child.pidfd());
  }
  if (::poll(waits.data(), waits.size(), -1) < 0) {
    if (errno == EINTR) return {};
    return fail_errno("waiting for events");
  }
  if (waits[0].revents != 0) running_ = false;
  if (waits[1].revents != 0) accept_link();
  // What is in flight from the writer is taken before its end is.
  if (waits[3].revents != 0) {
    serve_writer();
  } else if (waits[4].revents != 0) {
    writer_ended();
  }
  auto link = links_.begin();
  for (size_t i = 0; i < n_links; ++i) {
    const auto here = link++;
    if (waits[first_link + i].revents != 0 && !serve_link(*here)) links_.erase(here);
  }
  reap_agents();
  return {};
}

void Supervisor::accept_link() {
  auto socket = listener_.accept();
  if (!socket) return;
  const auto peer = socket->peer();
  if (!peer || (peer->uid != ::geteuid() && peer->uid != 0)) {
    log_line(LogLevel::warning, "refused a connection of another user");
    return;
  }
  Link& link = links_.emplace_back();
  link.id = next_key_++;
  link.socket = std::move(*socket);
}

bool Supervisor::serve_link(Link& link) {
  auto packet = link.socket.receive();
  if (packet) return handle_packet(link, std::move(*packet));
  if (link.role != Link::Role::agent) return false;
  if (!link.waiting_score.empty()) fail_score(link);
  // An agent that was started by hand has no pidfd here: the end of its lease is its end, unless it
  // has moved to another version, whose lease was granted before this one closed.
  AgentRecord* agent = agents_.find(link.agent);
  const bool moved = std::ranges::any_of(links_, [&](const Link& other) {
    return &other != &link && other.role == Link::Role::agent && other.agent == link.agent;
  });
  if (agent != nullptr && !moved && agent->child.pid() < 0) {
    agent_ended(*agent, "its connection ended");
  }
  return false;
}

void Supervisor::serve_writer() {
  auto packet = writer_.socket().receive();
  if (!packet) return writer_ended();
  auto message = Message::parse(packet->text);
  if (!message) {
    log_line(LogLevel::error, cat("the writer spoke nonsense: ", message.error().message));
    return writer_ended();
  }
  if (auto left = writer_.received(std::move(*message), packet->fds)) {
    writer_message(*left, std::move(packet->fds));
  }
}

void Supervisor::writer_ended() {
  log_line(LogLevel::warning, writer_.ended());
  if (registry_.image() == nullptr && writer_.state() == WriterLink::State::failed) {
    fatal_ =
        Error{ErrorCode::writer_lost, "the writer died before it had packed the model", {}, {}};
    running_ = false;
  }
}

void Supervisor::reap_agents() {
  for (auto& [name, agent] : agents_.all()) {
    if (agent.state == AgentRecord::State::ended || agent.child.pid() < 0) continue;
    if (auto exit = agent.child.try_wait()) agent_ended(agent, describe(*exit));
  }
}

// Ends every child; a process that does not listen is killed.
void Supervisor::shut_down() {
  for (auto& [name, agent] : agents_.all()) {
    if (agent.child.pid() > 0 && agent.state != AgentRecord::State::ended) {
      agent.child.signal(SIGTERM);
    }
  }
  writer_.terminate();
  for (auto& [name, agent] : agents_.all()) {
    if (agent.child.pid() > 0) (void)agent.child.wait(2000);
  }
  agents_.all().clear();
  links_.clear();
}

}  // namespace polykv
