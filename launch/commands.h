// The subcommands that talk to, or keep, a running system.
#pragma once

#include <string>
#include <vector>

#include "launch/run_job.h"

namespace polykv {

struct UpOptions {
  SupervisorOptions supervisor;
  std::string runtime;
  std::vector<std::string> context;  // paths; empty = no pool yet
  std::string pool = "main";
  std::string codec = "k4v4";
  int64_t n_agents = 0;
  int64_t reserve = 0;  // positions to leave for prompt and answer
};
// Runs until interrupted or told to go down.
Status up(const UpOptions& options, int interrupt_fd);

struct AskCommand {
  std::string runtime, pool = "main", agent, question;
  int64_t version = 0;  // 0 = the current one
  AskOptions ask;
  bool json = false;  // the "done" message instead of the text
};
Status ask(const AskCommand& command, int interrupt_fd);

Status append(const std::string& runtime, const std::string& pool,
              const std::vector<std::string>& paths, int interrupt_fd);
Status fork(const std::string& runtime, const std::string& pool, int64_t version,
            const std::string& to, int interrupt_fd);
Status drop(const std::string& runtime, const std::string& pool, int interrupt_fd);
Status show_status(const std::string& runtime, bool json, int interrupt_fd);
Status down(const std::string& runtime, int interrupt_fd);

}  // namespace polykv
