// The subcommands that talk to, or keep, a running system.
#pragma once

#include <string>
#include <vector>

#include "launch/deployment.h"
#include "launch/run_job.h"

namespace polykv {

// Runs until interrupted or told to go down.
Status up(const Deployment& deployment, int interrupt_fd);

struct AskCommand {
  std::string runtime, pool = "main", model, agent, question;
  int64_t version = 0;          // 0 = the current one
  int64_t at_least = 0;         // 0 = whatever is there
  double deadline_seconds = 0;  // 0 = the runtime's
  AskOptions ask;
  bool json = false;  // the "done" message instead of the text
};
// The request that it makes, without prompt.
Message generate_request(const AskCommand& command);
Status ask(const AskCommand& command, int interrupt_fd);

// A request about a pool, or about agents; each command uses what it needs.
struct ClientCommand {
  std::string runtime, pool = "main", model;
  std::string to;                  // fork
  std::string role;                // append
  std::vector<std::string> paths;  // append
  std::string agent;               // agent stop; "" = all
  int64_t version = 0;             // 0 = the current one
  int64_t ttl_seconds = 0;         // 0 = none
  int64_t count = 1;               // agent start
  double deadline_seconds = 0;     // 0 = the runtime's
};
Status append(const ClientCommand& command, int interrupt_fd);
Status fork(const ClientCommand& command, int interrupt_fd);
Status drop(const ClientCommand& command, int interrupt_fd);
Status pin(const ClientCommand& command, int interrupt_fd);
Status unpin(const ClientCommand& command, int interrupt_fd);
Status agent_start(const ClientCommand& command, int interrupt_fd);
Status agent_stop(const ClientCommand& command, int interrupt_fd);
Status down(const ClientCommand& command, int interrupt_fd);

struct StatusCommand {
  std::string runtime;
  bool json = false;
  bool watch = false;
};
Status show_status(const StatusCommand& command, int interrupt_fd);

}  // namespace polykv
