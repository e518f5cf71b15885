// Granting leases and forwarding scores.
#include "launch/leases.h"

#include <unistd.h>

#include <algorithm>

#include "ipc/log.h"

namespace polykv {

bool refuse(FdSocket& socket, const Error& error, const std::string& request) {
  Message message = error_message(error);
  if (!request.empty()) message.set("id", request);
  return static_cast<bool>(socket.try_send(message.dump()));
}

Status check_user(uid_t uid) {
  if (uid == ::geteuid() || uid == 0) return {};
  return fail(ErrorCode::forbidden,
              cat("this runtime belongs to user ", ::geteuid(), ", you are user ", uid,
                  ": start one of your own"),
              cat(uid), cat(::geteuid()));
}

void Leases::accept() {
  auto socket = listener_.accept();
  if (!socket) return;
  const auto peer = socket->peer();
  if (!peer) return;
  if (auto good = check_user(peer->uid); !good) {
    log_line(LogLevel::warning, cat("refused a connection of user ", peer->uid));
    return (void)refuse(*socket, good.error());
  }
  Link& link = links_.emplace_back();
  link.id = next_id_++;
  link.pid = peer->pid;
  link.socket = std::move(*socket);
}

Link* Leases::find(uint64_t id) {
  for (Link& link : links_) {
    if (link.id == id) return &link;
  }
  return nullptr;
}

Link* Leases::newest_of(const std::string& agent) {
  Link* newest = nullptr;
  for (Link& link : links_) {
    if (link.role == Link::Role::agent && link.agent == agent) newest = &link;
  }
  return newest;
}

Link* Leases::on_version(const std::string& agent, const std::string& pool, uint64_t number) {
  for (Link& link : links_) {
    const bool its_own = link.role == Link::Role::agent && link.agent == agent;
    if (its_own && link.pool == pool && link.leased->number == number) return &link;
  }
  return newest_of(agent);
}

bool Leases::is_scoring(const std::string& agent) const {
  return std::ranges::any_of(links_, [&](const Link& link) {
    return link.role == Link::Role::agent && link.agent == agent && !link.waiting_score.empty();
  });
}

bool Leases::send(uint64_t id, const Message& message, const std::vector<int>& fds) {
  Link* link = find(id);
  return link != nullptr && link->socket.try_send(message.dump(), fds);
}

bool Leases::has_other(const Link& link) const {
  return std::ranges::any_of(links_, [&](const Link& other) {
    return &other != &link && other.role == Link::Role::agent && other.agent == link.agent;
  });
}

bool Leases::grant(Link& link, const Message& attach) {
  const std::string pool = attach.text("pool");
  auto model = models_.find(attach.text("model"));
  if (!model) return refuse(link.socket, model.error());
  const Registry& registry = (*model)->registry;
  auto version = registry.version(pool, static_cast<uint64_t>(attach.integer("version")));
  if (!version) return refuse(link.socket, version.error());
  const HeldImage& image = *registry.image();
  const std::string wanted = attach.text("fingerprint");
  if (!wanted.empty() && wanted != image.fingerprint) {
    return refuse(link.socket, {ErrorCode::fingerprint_mismatch,
                                cat("pool '", pool, "' belongs to model ", image.fingerprint,
                                    ", the agent wants ", wanted),
                                wanted, image.fingerprint});
  }
  Message granted("granted");
  granted.set("model", (*model)->name).set("pool", pool).set("version", (*version)->number);
  granted.set("fingerprint", image.fingerprint).set("spans", (*version)->segments.size());
  if (!send_grant(link, image, **version, granted)) return false;
  link.role = Link::Role::agent;
  link.agent = attach.text("agent");
  link.model = (*model)->name;
  link.pool = pool;
  link.leased = std::move(*version);
  return true;
}

bool Leases::send_grant(Link& link, const HeldImage& image, const Version& version,
                        const Message& granted) {
  std::vector<UniqueFd> opened;
  std::vector<int> fds;
  const auto add = [&](int fd) {
    auto own = reopen_read_only(fd);
    if (!own) return false;
    fds.push_back(own->get());
    opened.push_back(std::move(*own));
    return true;
  };
  bool ok = add(image.fd.get()) && add(version.manifest_fd.get());
  for (const auto& segment : version.segments) ok = ok && add(segment->fd.get());
  if (ok) return static_cast<bool>(link.socket.try_send(granted.dump(), fds));
  (void)refuse(link.socket, {ErrorCode::io, "no descriptors are left to share", {}, {}});
  return false;
}

void Leases::forward_score(Link& link, Link* lease, const Message& message,
                           std::vector<UniqueFd> fds) {
  const std::string name = message.text("agent");
  Error error{ErrorCode::agent_lost, cat("there is no agent '", name, "'"), name, {}};
  if (lease != nullptr && is_scoring(name)) {
    error = {
        ErrorCode::usage, cat("agent '", name, "' is scoring already: ask again later"), name, {}};
  } else if (lease != nullptr && lease->socket.try_send(message.dump(), {fds[0].get()})) {
    lease->waiting_score = message.text("id");
    lease->scorer = link.id;
    return;
  }
  (void)refuse(link.socket, error, message.text("id"));
}

// Scores go only to the connection that asked: other clients use the same request ids.
void Leases::agent_packet(Link& agent, const Message& message, std::vector<UniqueFd> fds) {
  if (agent.waiting_score.empty() || message.text("id") != agent.waiting_score) {
    if (take_agent_packet_) take_agent_packet_(agent, message, std::move(fds));
    return;
  }
  std::vector<int> raw;
  for (const UniqueFd& fd : fds) raw.push_back(fd.get());
  (void)send(agent.scorer, message, raw);  // a client that went away misses its answer
  if (message.type() != "progress") agent.waiting_score.clear();
}

void Leases::fail_score(Link& agent) {
  if (agent.waiting_score.empty()) return;
  Message lost = error_message({ErrorCode::agent_lost,
                                cat("agent ", agent.agent, " ended while it scored"),
                                agent.agent,
                                {}});
  lost.set("id", agent.waiting_score);
  (void)send(agent.scorer, lost, {});
  agent.waiting_score.clear();
}

std::map<const Version*, uint64_t> Leases::count() const {
  std::map<const Version*, uint64_t> leases;
  for (const Link& link : links_) {
    if (link.leased) ++leases[link.leased.get()];
  }
  return leases;
}

uint64_t Leases::rename(const std::string& model, const std::string& pool,
                        const std::string& name) {
  uint64_t renamed = 0;
  for (Link& link : links_) {
    if (!link.leased || link.model != model || link.pool != pool) continue;
    link.pool = name;
    ++renamed;
  }
  return renamed;
}

}  // namespace polykv
