// Control sockets over ZeroMQ: the only file that sees libzmq.
#include "ipc/control.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstring>
#include <map>
#include <zmq.hpp>

#include "ipc/fd_socket.h"

namespace polykv {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kQueued = 1000;         // messages that may wait for one peer
constexpr int kLingerMs = 200;        // for the last messages at exit; libzmq's default is for ever
constexpr int kHandshakeMs = 2000;    // a stranger that connects and says nothing
constexpr int kSendTimeoutMs = 5000;  // a server that lives takes a message long before
constexpr int kBacklog = 1024;        // agents that connect at once
constexpr size_t kIdentityMax = 200;  // bytes; libzmq takes 255
constexpr rlim_t kFilesWanted = 65536;

std::unexpected<Error> zmq_failure(const std::string& what, const zmq::error_t& error) {
  return fail(ErrorCode::io, cat(what, ": ", error.what()));
}

void set_common(zmq::socket_t& socket) {
  socket.set(zmq::sockopt::linger, kLingerMs);
  socket.set(zmq::sockopt::sndhwm, kQueued);
  socket.set(zmq::sockopt::rcvhwm, kQueued);
  socket.set(zmq::sockopt::maxmsgsize, int64_t{kMessageBytesMax});
  socket.set(zmq::sockopt::handshake_ivl, kHandshakeMs);
}

void raise_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const rlim_t wanted = std::min(limit.rlim_max, kFilesWanted);
  if (limit.rlim_cur >= wanted) return;
  limit.rlim_cur = wanted;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

// Before its listener is closed: libzmq leaks what it would still tell.
void stop_monitor(zmq::socket_t& socket) { ::zmq_socket_monitor(socket.handle(), nullptr, 0); }

bool has_input(zmq::socket_t& socket) {
  return (socket.get(zmq::sockopt::events) & ZMQ_POLLIN) != 0;
}

// All frames of the next message; empty when none waits.
std::vector<zmq::message_t> receive_frames(zmq::socket_t& socket) {
  std::vector<zmq::message_t> frames;
  do {
    zmq::message_t frame;
    if (!socket.recv(frame, zmq::recv_flags::dontwait)) break;
    frames.push_back(std::move(frame));
  } while (frames.back().more());
  return frames;
}

// libzmq names the peer of an ipc:// connection "localhost:uid:gid:pid", as the kernel vouches for
// it. Without that the owner of the 0700 directory is the only one who could have connected.
uid_t sender_uid(zmq::message_t& frame) {
  uid_t uid = ::geteuid();
  try {
    const std::string_view peer = frame.gets("Peer-Address");
    const size_t colon = peer.find(':');
    if (colon != peer.npos) std::from_chars(peer.begin() + colon + 1, peer.end(), uid);
  } catch (const zmq::error_t&) {
  }
  return uid;
}

// Who sent by which connection, and whose connections have ended. An event of an end comes before
// anything of a new connection that was given the same descriptor.
class Senders {
 public:
  void watch(zmq::context_t& context, zmq::socket_t& router) {
    constexpr const char* kEvents = "inproc://ends";
    if (::zmq_socket_monitor(router.handle(), kEvents, ZMQ_EVENT_DISCONNECTED) != 0) {
      throw zmq::error_t();
    }
    events_ = zmq::socket_t(context, zmq::socket_type::pair);
    events_.connect(kEvents);
  }

  void saw(const std::string& sender, zmq::message_t& frame) {
    note_ends();
    by_fd_[::zmq_msg_get(frame.handle(), ZMQ_SRCFD)] = sender;
  }

  std::vector<std::string> take_vanished() {
    note_ends();
    return std::exchange(vanished_, {});
  }

  zmq::socket_t& events() { return events_; }

 private:
  void note_ends() {
    for (auto frames = receive_frames(events_); !frames.empty(); frames = receive_frames(events_)) {
      int32_t fd = -1;  // an event is a 16-bit number and the 32 bits of a descriptor
      if (frames[0].size() >= 6) std::memcpy(&fd, frames[0].data<char>() + 2, sizeof(fd));
      const auto found = by_fd_.extract(fd);
      if (found) vanished_.push_back(found.mapped());
    }
  }

  zmq::socket_t events_;
  std::map<int, std::string> by_fd_;
  std::vector<std::string> vanished_;
};

// ZeroMQ's own descriptor is edge-triggered, and a send may swallow its edge. This one stays
// readable: an epoll of ZeroMQ's descriptor and of an event that is set while input is known to
// wait.
class Wakeup {
 public:
  Status open(zmq::socket_t& socket, zmq::socket_t& other) {
    event_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    epoll_ = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
    if (!event_ || !epoll_) return fail_errno("watch the control socket");
    for (const int fd : {socket.get(zmq::sockopt::fd), other.get(zmq::sockopt::fd), event_.get()}) {
      epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
      if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
        return fail_errno("watch the control socket");
      }
    }
    return {};
  }

  void update(zmq::socket_t& socket, zmq::socket_t& other) {
    uint64_t count = 1;
    if (has_input(socket) || has_input(other)) {
      (void)!::write(event_.get(), &count, sizeof(count));
    } else {
      (void)!::read(event_.get(), &count, sizeof(count));
    }
  }

  int fd() const { return epoll_.get(); }

 private:
  UniqueFd event_, epoll_;
};

// A stale socket file looks like a server to libzmq, which would retry for ever.
Status check_listening(const std::string& path) {
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return fail_errno("create a Unix socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::copy(path.begin(), path.end(), address.sun_path);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    return {};
  }
  if (errno != ENOENT && errno != ECONNREFUSED) return fail_errno(cat("connect to ", path));
  return fail(ErrorCode::not_running,
              cat("no runtime listens at ", path, ": start one with 'polykv up'"), path);
}

Status check_identity(const std::string& identity) {
  if (!identity.empty() && identity.size() <= kIdentityMax && identity.front() != '\0') return {};
  return fail(ErrorCode::usage,
              cat("a client's identity takes 1 to ", kIdentityMax, " bytes, not ", identity.size()),
              cat(identity.size()), cat(kIdentityMax));
}

std::unexpected<Error> server_ended() {
  return fail(ErrorCode::not_running, "the runtime closed the connection: it ended or was killed");
}
std::string endpoint(const std::string& path) { return "ipc://" + path; }

}  // namespace

struct ControlServer::State {
  zmq::context_t context{1};
  zmq::socket_t router{context, zmq::socket_type::router};
  zmq::socket_t bus{context, zmq::socket_type::xpub};
  Senders senders;
  Wakeup wakeup;
  ~State() { stop_monitor(router); }
  void update() { wakeup.update(router, senders.events()); }
  void bind(const std::string& control_path, const std::string& bus_path) {
    set_common(router);
    set_common(bus);
    router.set(zmq::sockopt::router_mandatory, true);
    router.set(zmq::sockopt::backlog, kBacklog);
    senders.watch(context, router);
    router.bind(endpoint(control_path));
    bus.bind(endpoint(bus_path));
  }
};

ControlServer::ControlServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
ControlServer::ControlServer(ControlServer&&) noexcept = default;
ControlServer& ControlServer::operator=(ControlServer&&) noexcept = default;
ControlServer::~ControlServer() = default;

Result<ControlServer> ControlServer::bind(const std::string& control_path,
                                          const std::string& bus_path) {
  for (const std::string& path : {control_path, bus_path}) {
    if (const Status ok = check_socket_path(path); !ok) return pass(ok);
    if (const Status ok = remove_old_socket(path); !ok) return pass(ok);
  }
  raise_file_limit();
  try {
    auto state = std::make_unique<State>();
    state->bind(control_path, bus_path);
    if (const Status ok = state->wakeup.open(state->router, state->senders.events()); !ok) {
      return pass(ok);
    }
    state->update();
    return ControlServer(std::move(state));
  } catch (const zmq::error_t& error) {
    return zmq_failure(cat("bind ", control_path, " and ", bus_path), error);
  }
}

std::optional<Request> ControlServer::receive() {
  try {
    auto frames = receive_frames(state_->router);
    state_->update();
    if (frames.empty()) return std::nullopt;
    Request request{.sender = frames.front().to_string(), .uid = ::geteuid(), .text = {}};
    // Any other number of frames is left empty, and so is refused as a message.
    if (frames.size() == 2) request.text = frames[1].to_string();
    request.uid = sender_uid(frames.back());
    state_->senders.saw(request.sender, frames.back());
    return request;
  } catch (const zmq::error_t&) {
    return std::nullopt;
  }
}

bool ControlServer::send(const std::string& to, const Message& message) {
  try {
    const std::string text = message.dump();
    const auto flags = zmq::send_flags::dontwait;
    bool sent = state_->router.send(zmq::buffer(to), flags | zmq::send_flags::sndmore).has_value();
    sent = sent && state_->router.send(zmq::buffer(text), flags).has_value();
    state_->update();
    return sent;
  } catch (const zmq::error_t&) {  // EHOSTUNREACH: nobody of that name is connected
    state_->update();
    return false;
  }
}

void ControlServer::publish(const std::string& topic, const Message& message) {
  try {
    while (!receive_frames(state_->bus).empty()) {  // subscriptions: unread, they would pile up
    }
    const auto flags = zmq::send_flags::dontwait;
    (void)state_->bus.send(zmq::buffer(topic), flags | zmq::send_flags::sndmore);
    (void)state_->bus.send(zmq::buffer(message.dump()), flags);
  } catch (const zmq::error_t&) {  // the bus is only a hint
  }
}

std::vector<std::string> ControlServer::take_vanished() {
  try {
    auto vanished = state_->senders.take_vanished();
    state_->update();
    return vanished;
  } catch (const zmq::error_t&) {
    return {};
  }
}
int ControlServer::poll_fd() const { return state_->wakeup.fd(); }

struct ControlClient::State {
  zmq::context_t context{1};
  zmq::socket_t dealer{context, zmq::socket_type::dealer};
  zmq::socket_t bus{context, zmq::socket_type::sub};
  zmq::socket_t monitor{context, zmq::socket_type::pair};
  bool ended = false;  // the monitor has told of the server's end: nothing is sent any more
  ~State() { stop_monitor(dealer); }
  void connect(const std::string& path, const std::string& identity) {
    set_common(dealer);
    dealer.set(zmq::sockopt::routing_id, identity);
    dealer.set(zmq::sockopt::sndtimeo, kSendTimeoutMs);
    // Not ZMQ_IMMEDIATE: with it, a disconnect also drops messages that have arrived and wait.
    constexpr const char* kEvents = "inproc://events";
    if (::zmq_socket_monitor(dealer.handle(), kEvents, ZMQ_EVENT_DISCONNECTED) != 0) {
      throw zmq::error_t();
    }
    monitor.set(zmq::sockopt::linger, 0);
    monitor.connect(kEvents);
    dealer.connect(endpoint(path));
  }

  void subscribe(const std::string& path, const std::vector<std::string>& topics) {
    set_common(bus);
    for (const std::string& topic : topics) bus.set(zmq::sockopt::subscribe, topic);
    bus.connect(endpoint(path));
  }

  // Once ended, always ended: libzmq would connect again, and repeat old requests to a new server.
  bool has_ended() {
    ended = ended || !receive_frames(monitor).empty();
    return ended;
  }

  // What is at hand, without waiting: the server's messages, then the bus, then the server's end.
  Result<std::optional<Message>> next() {
    // The end is asked for first: every message that came before it is in the queue by then.
    const bool end = has_ended();
    for (zmq::socket_t* socket : {&dealer, &bus}) {
      const auto frames = receive_frames(*socket);
      if (frames.empty()) continue;
      auto message = Message::parse(frames.back().to_string_view());
      if (!message) return pass(message);
      return std::optional(std::move(*message));
    }
    if (end) return server_ended();
    return std::nullopt;
  }
};

ControlClient::ControlClient(std::unique_ptr<State> state) : state_(std::move(state)) {}
ControlClient::ControlClient(ControlClient&&) noexcept = default;
ControlClient& ControlClient::operator=(ControlClient&&) noexcept = default;
ControlClient::~ControlClient() = default;

Result<ControlClient> ControlClient::connect(const std::string& control_path,
                                             const std::string& identity,
                                             const std::string& bus_path,
                                             const std::vector<std::string>& topics) {
  if (const Status ok = check_identity(identity); !ok) return pass(ok);
  if (const Status ok = check_socket_path(control_path); !ok) return pass(ok);
  if (!bus_path.empty()) {
    if (const Status ok = check_socket_path(bus_path); !ok) return pass(ok);
  }
  if (const Status ok = check_listening(control_path); !ok) return pass(ok);
  try {
    auto state = std::make_unique<State>();
    state->connect(control_path, identity);
    if (!bus_path.empty()) state->subscribe(bus_path, topics);
    return ControlClient(std::move(state));
  } catch (const zmq::error_t& error) {
    return zmq_failure(cat("connect to ", control_path), error);
  }
}

Status ControlClient::send(const Message& message) {
  const std::string text = message.dump();
  if (text.size() > kMessageBytesMax) {
    return fail(ErrorCode::bad_message,
                cat("a message of ", text.size(), " bytes; at most ", kMessageBytesMax,
                    " are taken. Hand long texts over by path"),
                cat(text.size()), cat(kMessageBytesMax));
  }
  try {
    if (state_->has_ended()) return server_ended();
    if (state_->dealer.send(zmq::buffer(text), zmq::send_flags::none)) return {};
    return fail(ErrorCode::timed_out, "the runtime takes no messages: it hangs or has ended", "",
                cat(kSendTimeoutMs, " ms"));
  } catch (const zmq::error_t& error) {
    return zmq_failure("send to the runtime", error);
  }
}

Result<std::optional<Message>> ControlClient::receive(int timeout_ms, int also_fd) {
  const auto deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
  try {
    while (true) {
      auto next = state_->next();
      if (!next || *next) return next;
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
      if (timeout_ms >= 0 && left.count() <= 0) return std::nullopt;
      zmq::pollitem_t items[] = {{state_->dealer.handle(), 0, ZMQ_POLLIN, 0},
                                 {state_->bus.handle(), 0, ZMQ_POLLIN, 0},
                                 {state_->monitor.handle(), 0, ZMQ_POLLIN, 0},
                                 {nullptr, also_fd, ZMQ_POLLIN, 0}};
      const size_t n_items = also_fd >= 0 ? 4 : 3;
      const long wait = timeout_ms < 0 ? -1 : static_cast<long>(left.count());
      const int ready =
          ::zmq_poll(reinterpret_cast<zmq_pollitem_t*>(items), static_cast<int>(n_items), wait);
      if (ready < 0 && errno != EINTR) throw zmq::error_t();
      if (ready > 0 && items[3].revents != 0) return state_->next();
    }
  } catch (const zmq::error_t& error) {
    return zmq_failure("wait for the runtime", error);
  }
}

}  // namespace polykv
