// SEQPACKET connections to the supervisor: leases of agents, clients that send memory, strangers
// that have not said yet what they are.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <string>
#include <vector>

#include "ipc/fd_socket.h"
#include "ipc/message.h"
#include "launch/link.h"
#include "launch/model_slot.h"

namespace polykv {

class Leases {
 public:
  // What an agent sends over its lease that is no answer to a score.
  using AgentPacket = std::function<void(Link&, const Message&, std::vector<UniqueFd>)>;

  Leases(FdListener listener, Models& models) : listener_(std::move(listener)), models_(models) {}

  int listener_fd() const { return listener_.fd(); }
  void accept();  // REQUIRES: poll said readable
  std::list<Link>& all() { return links_; }
  const std::list<Link>& all() const { return links_; }
  Link* find(uint64_t id);
  Link* newest_of(const std::string& agent);  // lease of this agent
  // Its lease on that version, or else the newest.
  Link* on_version(const std::string& agent, const std::string& pool, uint64_t number);
  bool send(uint64_t id, const Message& message, const std::vector<int>& fds);
  // Has this agent a lease besides this one?
  bool has_other(const Link& link) const;

  // attach: the connection becomes a lease. False: drop it.
  bool grant(Link& link, const Message& attach);
  // A client's score goes to the agent's lease (nullptr: none), its answer back to the client.
  void forward_score(Link& link, Link* lease, const Message& message, std::vector<UniqueFd> fds);
  void agent_packet(Link& agent, const Message& message, std::vector<UniqueFd> fds);
  // A lease is about to end: who waits for its agent's score is told.
  void fail_score(Link& agent);
  void on_agent_packet(AgentPacket take) { take_agent_packet_ = std::move(take); }

  // How many leases each version has.
  std::map<const Version*, uint64_t> count() const;
  // Leases on a dropped pool go on under another name: the old one may become another pool's.
  uint64_t rename(const std::string& model, const std::string& pool, const std::string& name);

 private:
  bool send_grant(Link& link, const HeldImage& image, const Version& version,
                  const Message& granted);
  bool is_scoring(const std::string& agent) const;

  FdListener listener_;
  Models& models_;
  std::list<Link> links_;
  AgentPacket take_agent_packet_;
  uint64_t next_id_ = 1;
};

// Only the runtime's own user and root may talk to it, whatever the directory's mode says.
Status check_user(uid_t uid);

// An error as the answer to a request by link; false if it could not be sent.
bool refuse(FdSocket& socket, const Error& error, const std::string& request = "");

}  // namespace polykv
