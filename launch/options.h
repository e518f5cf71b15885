// What the command line of `polykv` says, with the environment and the deployment's file below it:
// flag > POLYKV_<OPTION> > file > default.
#pragma once

#include <expected>
#include <string>

#include "launch/chat.h"
#include "launch/commands.h"
#include "launch/doctor.h"
#include "launch/eval.h"

namespace polykv {

struct Arguments {
  std::string command;    // "up", "agent start", …
  Deployment deployment;  // of up, run and eval; completed and checked
  bool print_config = false;
  RunOptions run;
  EvalOptions eval;
  AskCommand ask;
  ChatCommand chat;
  ClientCommand client;  // of all other clients
  StatusCommand status;
  DoctorCommand doctor;
};

// Or the exit code with which the program is to end now: help, version and errors have been
// printed.
std::expected<Arguments, int> parse_arguments(int argc, const char* const* argv);

}  // namespace polykv
