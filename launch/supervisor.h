// Start here for launch/: the supervisor. It keeps every fd and the list of versions, hands fds
// out, binds the control sockets, and starts, watches and restarts the writer and the agents. No
// model arithmetic.
//
//   clients, agents ── ROUTER/XPUB: requests, answers, events ──► Supervisor
//   writer, agents, clients ── SEQPACKET: memory, leases ───────► Supervisor
//
// One thread, one event loop. What changes is here, told by message; what is shared never changes.
// The supervisor itself is the loop and who gets which message; the work is done by its parts:
//
//   Models       launch/model_slot.h    each model's writer, pools, versions
//   Leases       launch/leases.h        SEQPACKET connections, leases, scores
//   Replies      launch/replies.h       answers, repeated requests, events on the bus
//   PoolJobs     launch/pool_jobs.h     text → tokens → segment → published version
//   PoolKeeper   launch/pool_keeper.h   fork, drop, pin; time to live, room in the budget
//   AgentKeeper  launch/agent_keeper.h  processes of agents
//   Generations  launch/generations.h   what agents compute, and for whom
//   Commits      launch/commits.h       finished turns as next versions
//   Budget       launch/budget.h        how much memory may be taken, who holds it
//   Deadlines    launch/deadlines.h     what is to happen later
#pragma once

#include <memory>

#include "ipc/control.h"
#include "launch/agent_keeper.h"
#include "launch/commits.h"
#include "launch/deadlines.h"
#include "launch/generations.h"
#include "launch/pool_jobs.h"
#include "launch/pool_keeper.h"
#include "launch/runtime_dir.h"

namespace polykv {

class Supervisor {
 public:
  // Binds everything and starts the writer.
  static Result<std::unique_ptr<Supervisor>> start(SupervisorOptions options, RuntimeDir directory);
  ~Supervisor();

  // Serves until a shutdown request or a write to stop_fd(); then ends every child.
  // An error if no model could be packed.
  Status run();
  int stop_fd() const { return stop_.get(); }

 private:
  struct Sockets {
    UniqueFd stop;
    FdListener listener;
    ControlServer control;
  };
  Supervisor(SupervisorOptions options, RuntimeDir directory, Sockets sockets);

  // supervisor.cpp: the event loop
  Status wait_and_serve();
  bool serve_link(Link& link);  // false: drop it
  void serve_writer(ModelSlot& model);
  void writer_ended(ModelSlot& model);
  void model_failed(ModelSlot& model, const Error& error);
  void shut_down();

  // supervisor_requests.cpp: who gets which message
  void handle_request(const Request& request);
  void agent_message(AgentRecord& agent, const Message& message);
  void client_request(const std::string& client, const Message& message);
  void cancel(const std::string& client, const std::string& request);
  void client_gone(const std::string& client);
  void long_request(const Asker& asker, const Message& message);
  bool handle_packet(Link& link, Packet packet);
  Link* lease_for_score(const std::string& name);
  bool client_packet(Link& link, const Message& message, std::vector<UniqueFd> fds);
  bool writer_hello(Link& link, const Message& hello);
  ModelSlot* slot_of_writer(pid_t pid, const std::string& model);
  void writer_message(ModelSlot& model, const Message& message, std::vector<UniqueFd> fds);

  Message snapshot();  // supervisor_status.cpp

  SupervisorOptions options_;
  RuntimeDir directory_;
  UniqueFd stop_;
  ControlServer control_;
  Deadlines deadlines_;
  Models models_;
  Leases leases_;
  Budget budget_;
  Replies replies_;
  PoolKeeper pool_keeper_;
  PoolJobs pool_jobs_;
  AgentKeeper agents_;
  Generations generations_;
  Commits commits_;
  std::optional<Error> fatal_;
  bool running_ = true;
};

}  // namespace polykv
