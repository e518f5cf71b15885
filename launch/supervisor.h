// Start here for launch/: the supervisor. It keeps every fd and the list of versions, hands fds
// out, binds the control sockets, and starts, watches and restarts the writer and the agents. No
// model arithmetic.
//
//   clients, agents ── ROUTER/XPUB: requests, answers, events ──► Supervisor
//   writer, agents, clients ── SEQPACKET: memory, leases ───────► Supervisor
//
// One thread, one event loop. What changes is here, told by message; what is shared never changes.
#pragma once

#include <list>
#include <memory>
#include <set>
#include <string>

#include "ipc/control.h"
#include "launch/agent_table.h"
#include "launch/link.h"
#include "launch/registry.h"
#include "launch/runtime_dir.h"
#include "launch/supervisor_options.h"
#include "launch/writer_link.h"

namespace polykv {

class Supervisor {
 public:
  // Binds everything and starts the writer.
  static Result<std::unique_ptr<Supervisor>> start(SupervisorOptions options, RuntimeDir directory);
  ~Supervisor();

  // Serves until a shutdown request or a write to stop_fd(); then ends every child.
  // An error if the model could not be packed.
  Status run();
  int stop_fd() const { return stop_.get(); }

 private:
  struct PoolJob;  // supervisor_pools.cpp

  Supervisor(SupervisorOptions options, RuntimeDir directory);

  // supervisor.cpp: the event loop
  Status wait_and_serve();
  void accept_link();
  bool serve_link(Link& link);  // false: drop it
  void serve_writer();
  void writer_ended();
  void reap_agents();
  void shut_down();

  // supervisor_links.cpp: what comes by SEQPACKET
  bool handle_packet(Link& link, Packet packet);
  bool writer_hello(Link& link);
  bool grant_lease(Link& link, const Message& attach);
  void writer_message(const Message& message, std::vector<UniqueFd> fds);
  bool client_packet(Link& link, const Message& message, std::vector<UniqueFd> fds);
  bool forward_score(Link& link, const Message& message, std::vector<UniqueFd> fds);
  void fail_score(Link& agent);
  void forward_to_scorer(Link& agent, const Message& message, const std::vector<UniqueFd>& fds);
  Link* find_link(uint64_t id);

  // supervisor_requests.cpp: what comes by ZeroMQ
  void handle_request(const Request& request);
  void client_request(const std::string& client, const Message& message);
  void agent_message(AgentRecord& agent, const Message& message);
  void agent_hello(const std::string& routing, const Message& message);
  void reply(const std::string& client, const std::string& request, Message message);
  bool reply_part(const std::string& client, const std::string& request, Message message);
  void start_agents(const std::string& client, const Message& message);
  Status spawn_agent(AgentRecord& agent);
  void stop_agent(AgentRecord& agent);
  void stop_agents(const std::string& client, const Message& message);
  void agent_ended(AgentRecord& agent, const std::string& story);
  void settle_start(const std::string& agent, const Error* failure);
  void generate(const std::string& client, const Message& message);
  void dispatch();
  void cancel(const std::string& client, const Message& message);
  Message snapshot();

  // supervisor_pools.cpp: tokenise, prefill, verify, publish; fork, drop, pin
  void pool_request(const std::string& client, uint64_t link, const Message& message,
                    UniqueFd text);
  Status plan_append(PoolJob& job) const;
  Status plan_create(PoolJob& job, const std::string& codec_name) const;
  bool tokenise_for(Link& link, const Message& message, std::vector<UniqueFd> fds);
  bool prefill_for(Link& link, const Message& message, std::vector<UniqueFd> fds);
  void tokenise(const std::shared_ptr<PoolJob>& job);
  void prefill(const std::shared_ptr<PoolJob>& job, UniqueFd tokens);
  bool take_segment(const std::shared_ptr<PoolJob>& job, const Message& message,
                    std::vector<UniqueFd> fds);
  void report_progress(const PoolJob& job, Message message);
  void answer_job(const PoolJob& job, Message message);
  void end_job(const std::shared_ptr<PoolJob>& job, const Error* error);
  Status check_length(const PoolJob& job, int64_t count) const;
  void change_pools(const std::string& client, const Message& message);
  uint64_t rename_leases(const std::string& pool, const std::string& name);
  void announce(Message& event);
  std::string holders() const;

  SupervisorOptions options_;
  RuntimeDir directory_;
  FdListener listener_;
  std::unique_ptr<ControlServer> control_;
  UniqueFd stop_;
  WriterLink writer_;
  Registry registry_;
  AgentTable agents_;
  std::list<Link> links_;
  std::list<PendingStart> starts_;
  std::set<std::string> busy_pools_;                        // being created or appended to
  std::map<std::string, std::optional<Message>> answered_;  // client + request id -> final answer
  std::deque<std::string> answered_order_;
  std::vector<std::string> fallbacks_;
  uint64_t next_key_ = 1;  // generations and links
  uint64_t event_ = 0;     // sequence number of the last event on the bus
  std::optional<Error> fatal_;
  bool running_ = true;
};

}  // namespace polykv
