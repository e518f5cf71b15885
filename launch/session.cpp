// Thread and signals around a supervisor.
#include "launch/session.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

#include <csignal>

namespace polykv {
namespace {

void ring(int eventfd) {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(eventfd, &one, sizeof one);
}

}  // namespace

Result<UniqueFd> block_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  if (::pthread_sigmask(SIG_BLOCK, &signals, nullptr) != 0) return fail_errno("blocking signals");
  UniqueFd fd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return fail_errno("creating a signalfd");
  return fd;
}

Result<std::unique_ptr<Session>> Session::start(SupervisorOptions options,
                                                const std::string& runtime, int interrupt_fd) {
  auto directory = runtime.empty() ? RuntimeDir::make_private() : RuntimeDir::take(runtime);
  if (!directory) return pass(directory);
  std::unique_ptr<Session> session(new Session);
  session->runtime_ = directory->path();
  session->interrupt_fd_ = interrupt_fd;
  auto supervisor = Supervisor::start(std::move(options), std::move(*directory));
  if (!supervisor) return pass(supervisor);
  session->supervisor_ = std::move(*supervisor);
  session->ended_ = UniqueFd(::eventfd(0, EFD_CLOEXEC));
  if (!session->ended_) return fail_errno("creating an eventfd");
  session->thread_ = std::thread([own = session.get()] {
    own->outcome_ = own->supervisor_->run();
    ring(own->ended_.get());
  });
  auto client = Client::connect(session->runtime_, interrupt_fd);
  if (!client) return pass(client);
  session->client_ = std::make_unique<Client>(std::move(*client));
  return session;
}

Session::~Session() { (void)stop(); }

Status Session::wait() {
  pollfd waits[] = {{ended_.get(), POLLIN, 0}, {interrupt_fd_, POLLIN, 0}};
  while (::poll(waits, 2, -1) < 0 && errno == EINTR) {
  }
  return stop();
}

Status Session::stop(Status otherwise) {
  if (thread_.joinable()) {
    ring(supervisor_->stop_fd());
    thread_.join();
    client_.reset();
    supervisor_.reset();
  }
  return outcome_ ? otherwise : outcome_;
}

}  // namespace polykv
