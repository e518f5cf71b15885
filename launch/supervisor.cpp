// The supervisor's event loop and its end.
#include "launch/supervisor.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "ipc/log.h"

namespace polykv {

Supervisor::Supervisor(SupervisorOptions options, RuntimeDir directory, Sockets sockets)
    : options_(std::move(options)),
      directory_(std::move(directory)),
      stop_(std::move(sockets.stop)),
      control_(std::move(sockets.control)),
      deadlines_(options_.clock),
      models_(options_, directory_.path()),
      leases_(std::move(sockets.listener), models_),
      budget_(options_.budget, models_, leases_),
      replies_(control_,
               [this](uint64_t link, const Message& message, const std::vector<int>& fds) {
                 return leases_.send(link, message, fds);
               }),
      pool_keeper_(models_, leases_, budget_, replies_, deadlines_),
      pool_jobs_(models_, pool_keeper_, budget_, replies_, deadlines_),
      agents_(options_, directory_.path(), models_, control_, replies_, deadlines_),
      generations_(models_, agents_.table(), control_, replies_, deadlines_),
      commits_(models_, agents_.table(), pool_keeper_, budget_, control_, replies_, deadlines_) {
  pool_keeper_.on_awaited([this](const std::string& model, const std::string& pool) {
    return agents_.starts_on(model, pool) || generations_.await(model, pool);
  });
  leases_.on_agent_packet([this](Link& lease, const Message& message, std::vector<UniqueFd> fds) {
    commits_.take_turn(lease, message, std::move(fds));
  });
  agents_.on_events({
      .lost =
          [this](AgentRecord& agent, const Error& e) {
            generations_.agent_lost(agent, e);
            commits_.agent_lost(agent, e);
          },
      .gone = [this](const AgentRecord& agent,
                     const Error& e) { generations_.agent_gone(agent, e); },
  });
}

Supervisor::~Supervisor() = default;

Result<std::unique_ptr<Supervisor>> Supervisor::start(SupervisorOptions options,
                                                      RuntimeDir directory) {
  if (auto good = check_models(options.models); !good) return pass(good);
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop) return fail_errno("creating an eventfd");
  auto listener = FdListener::bind(directory.fd_path());
  if (!listener) return pass(listener);
  auto control = ControlServer::bind(directory.control_path(), directory.bus_path());
  if (!control) return pass(control);
  std::unique_ptr<Supervisor> supervisor(
      new Supervisor(std::move(options), std::move(directory),
                     {std::move(stop), std::move(*listener), std::move(*control)}));
  for (const auto& model : supervisor->models_.all()) {
    if (auto started = model->writer.start(); !started) return pass(started);
  }
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
  while (auto request = control_.receive()) {
    deadlines_.run_due();  // who asks sees what time has changed
    handle_request(*request);
  }
  for (const std::string& client : control_.take_vanished()) client_gone(client);
  deadlines_.run_due();
  generations_.dispatch();
  if (!running_) return {};
  std::vector<int> fds{stop_.get(), leases_.listener_fd(), control_.poll_fd()};
  for (const auto& model : models_.all()) {
    fds.insert(fds.end(), {model->writer.fd(), model->writer.pidfd()});
  }
  const size_t first_link = fds.size(), n_links = leases_.all().size();
  for (const Link& link : leases_.all()) fds.push_back(link.socket.fd());
  agents_.add_watches(fds);
  std::vector<pollfd> waits;
  for (const int fd : fds) waits.push_back({fd, POLLIN, 0});  // a negative fd is ignored
  if (::poll(waits.data(), waits.size(), deadlines_.poll_timeout_ms()) < 0) {
    if (errno == EINTR) return {};
    return fail_errno("waiting for events");
  }
  if (waits[0].revents != 0) running_ = false;
  if (waits[1].revents != 0) leases_.accept();
  for (size_t i = 0; i < models_.all().size(); ++i) {
    ModelSlot& model = *models_.all()[i];
    // What is in flight from the writer is taken before its end is.
    if (waits[3 + 2 * i].revents != 0) {
      serve_writer(model);
    } else if (waits[4 + 2 * i].revents != 0) {
      writer_ended(model);
    }
  }
  auto link = leases_.all().begin();
  for (size_t i = 0; i < n_links; ++i) {
    const auto here = link++;
    if (waits[first_link + i].revents != 0 && !serve_link(*here)) leases_.all().erase(here);
  }
  agents_.reap();
  return {};
}

bool Supervisor::serve_link(Link& link) {
  auto packet = link.socket.receive();
  if (packet) return handle_packet(link, std::move(*packet));
  pool_jobs_.link_gone(link.id);
  if (link.role != Link::Role::agent) return false;
  leases_.fail_score(link);
  pool_keeper_.used(link.model, link.pool);
  // An agent that has moved to another version was granted that lease before this one closed.
  if (!leases_.has_other(link)) agents_.lease_ended(link.agent);
  return false;
}

void Supervisor::serve_writer(ModelSlot& model) {
  auto packet = model.writer.socket().receive();
  if (!packet) return writer_ended(model);
  auto message = Message::parse(packet->text);
  if (!message) {
    log_line(LogLevel::error, cat("the writer spoke nonsense: ", message.error().message));
    return writer_ended(model);
  }
  if (auto left = model.writer.received(std::move(*message), packet->fds)) {
    writer_message(model, *left, std::move(packet->fds));
  }
}

void Supervisor::writer_ended(ModelSlot& model) {
  log_line(LogLevel::warning, model.writer.ended());
  const bool failed = model.writer.state() == WriterLink::State::failed;
  if (model.registry.image() != nullptr || !failed) return;
  model_failed(model, {ErrorCode::writer_lost,
                       cat("the writer died before it had packed the model '", model.name, "'"),
                       model.name,
                       {}});
}

// A model that cannot be packed is refused from now on; without any there is nothing to serve.
void Supervisor::model_failed(ModelSlot& model, const Error& error) {
  log_line(LogLevel::error, error.message, {{"model", model.name}});
  model.failure = error;
  if (model.writer.by_hand()) return log_line(LogLevel::warning, model.writer.ended());
  model.writer.give_up(error);
  if (!models_.all_failed()) return;
  fatal_ = error;
  running_ = false;
}

void Supervisor::shut_down() {
  for (const auto& model : models_.all()) model->writer.terminate();
  agents_.shut_down();
  leases_.all().clear();
}

}  // namespace polykv
