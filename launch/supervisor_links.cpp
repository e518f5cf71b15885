// What comes over SEQPACKET: the writer's hello, leases, and requests that carry memory.
#include <cstring>

#include "ipc/log.h"
#include "launch/supervisor.h"

namespace polykv {
namespace {

bool refuse(FdSocket& socket, const Error& error, const std::string& request = "") {
  Message message = error_message(error);
  if (!request.empty()) message.set("id", request);
  return static_cast<bool>(socket.try_send(message.dump()));
}

}  // namespace

Link* Supervisor::find_link(uint64_t id) {
  for (Link& link : links_) {
    if (link.id == id) return &link;
  }
  return nullptr;
}

bool Supervisor::handle_packet(Link& link, Packet packet) {
  auto message = Message::parse(packet.text);
  if (!message) {
    (void)refuse(link.socket, message.error(), id_of_refused(packet.text));
    return false;
  }
  const std::string type = message->type();
  if (link.role == Link::Role::agent) {
    forward_to_scorer(link, *message, packet.fds);
    return true;
  }
  if (type == "writer_hello") return writer_hello(link);
  if (type == "attach") return grant_lease(link, *message);
  return client_packet(link, *message, std::move(packet.fds));
}

// Only the child that this supervisor started is the writer.
bool Supervisor::writer_hello(Link& link) {
  const auto peer = link.socket.peer();
  if (!peer || peer->pid != writer_.pid() || writer_.state() != WriterLink::State::starting) {
    (void)refuse(
        link.socket,
        {ErrorCode::runtime_busy, "this runtime has a writer already; it starts its own", {}, {}});
    return false;
  }
  const HeldImage* image = registry_.image();
  writer_.connected(std::move(link.socket), options_.model_path,
                    image == nullptr ? -1 : image->fd.get(),
                    image == nullptr ? "" : image->fingerprint);
  return false;  // the link lives on as the writer's
}

bool Supervisor::grant_lease(Link& link, const Message& attach) {
  const std::string pool = attach.text("pool");
  auto version = registry_.version(pool, static_cast<uint64_t>(attach.integer("version")));
  const HeldImage* image = registry_.image();
  if (!version) return refuse(link.socket, version.error());
  const std::string wanted = attach.text("fingerprint");
  if (!wanted.empty() && wanted != image->fingerprint) {
    return refuse(link.socket, {ErrorCode::fingerprint_mismatch,
                                cat("pool '", pool, "' belongs to model ", image->fingerprint,
                                    ", the agent wants ", wanted),
                                wanted, image->fingerprint});
  }
  std::vector<UniqueFd> opened;
  std::vector<int> fds;
  const auto add = [&](int fd) {
    auto own = reopen_read_only(fd);
    if (!own) return false;
    fds.push_back(own->get());
    opened.push_back(std::move(*own));
    return true;
  };
  bool ok = add(image->fd.get()) && add((*version)->manifest_fd.get());
  for (const auto& segment : (*version)->segments) ok = ok && add(segment->fd.get());
  if (!ok) return refuse(link.socket, {ErrorCode::io, "no descriptors are left to share", {}, {}});
  Message granted("granted");
  granted.set("pool", pool).set("version", (*version)->number);
  granted.set("fingerprint", image->fingerprint).set("spans", (*version)->segments.size());
  if (!link.socket.try_send(granted.dump(), fds)) return false;
  link.role = Link::Role::agent;
  link.agent = attach.text("agent");
  link.pool = pool;
  link.leased = std::move(*version);
  return true;
}

// Messages of the writer that belong to no job: the image, progress of packing, its failure.
void Supervisor::writer_message(const Message& message, std::vector<UniqueFd> fds) {
  if (message.type() == "image" && !fds.empty()) {
    for (const std::string& notice : message.texts("notices")) log_line(LogLevel::info, notice);
    auto kept =
        registry_.set_image(std::move(fds[0]), message.text("name"), message.text("fingerprint"),
                            static_cast<uint32_t>(message.integer("positions")));
    if (kept) return writer_.image_ready();
    fatal_ = kept.error();
  } else if (message.type() == "error") {
    fatal_ = error_of(message);
  } else {
    return;
  }
  running_ = false;  // without a model there is nothing to serve
}

// Requests whose payload is memory: pool_create, append and tokenize + text; prefill and score +
// tokens.
bool Supervisor::client_packet(Link& link, const Message& message, std::vector<UniqueFd> fds) {
  link.role = Link::Role::client;
  const std::string request = message.text("id");
  if (request.empty()) {
    return refuse(link.socket,
                  {ErrorCode::bad_message,
                   cat("'", message.type(), "' needs an \"id\", so that its answer can be told"),
                   message.type(),
                   {}});
  }
  if (fds.size() != 1) {
    return refuse(link.socket,
                  {ErrorCode::bad_message,
                   cat("'", message.type(), "' needs one descriptor, got ", fds.size()),
                   cat(fds.size()), "1"},
                  request);
  }
  if (message.type() == "pool_create" || message.type() == "append") {
    pool_request("", link.id, message, std::move(fds[0]));
    return true;
  }
  if (message.type() == "tokenize") return tokenise_for(link, message, std::move(fds));
  if (message.type() == "prefill") return prefill_for(link, message, std::move(fds));
  if (message.type() == "score") return forward_score(link, message, std::move(fds));
  return refuse(link.socket,
                {ErrorCode::bad_message,
                 cat("'", message.type(), "' is not a request that comes with memory"),
                 message.type(), "pool_create, append, tokenize, prefill, score"},
                request);
}

// To the agent's lease; the answer comes back by forward_to_scorer.
bool Supervisor::forward_score(Link& link, const Message& message, std::vector<UniqueFd> fds) {
  const std::string name = message.text("agent");
  Error error{ErrorCode::agent_lost, cat("there is no agent '", name, "'"), name, {}};
  for (Link& other : links_) {
    if (other.role != Link::Role::agent || other.agent != name) continue;
    if (!other.waiting_score.empty()) {
      error = {ErrorCode::usage,
               cat("agent '", name, "' is scoring already: ask again later"),
               name,
               {}};
      break;
    }
    if (!other.socket.try_send(message.dump(), {fds[0].get()})) break;
    other.waiting_score = message.text("id");
    other.scorer = link.id;
    return true;
  }
  return refuse(link.socket, error, message.text("id"));
}

// Only to the connection that asked: other clients use the same request ids.
void Supervisor::forward_to_scorer(Link& agent, const Message& message,
                                   const std::vector<UniqueFd>& fds) {
  if (agent.waiting_score.empty() || message.text("id") != agent.waiting_score) return;
  std::vector<int> raw;
  for (const UniqueFd& fd : fds) raw.push_back(fd.get());
  // A client that went away misses its answer.
  if (Link* to = find_link(agent.scorer)) (void)to->socket.try_send(message.dump(), raw);
  if (message.type() != "progress") agent.waiting_score.clear();
}

// A lease that ends while its agent scores: the client would wait for ever.
void Supervisor::fail_score(Link& agent) {
  Message lost = error_message({ErrorCode::agent_lost,
                                cat("agent ", agent.agent, " ended while it scored"),
                                agent.agent,
                                {}});
  lost.set("id", agent.waiting_score);
  forward_to_scorer(agent, lost, {});
}

}  // namespace polykv
