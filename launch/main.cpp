// polykv: the command line. What may be said is in options*.cpp, what it does in commands.h.
#include <cstdlib>
#include <functional>
#include <iostream>
#include <map>

#include "ipc/log.h"
#include "launch/config_file.h"
#include "launch/options.h"

namespace {

using polykv::Arguments;
using polykv::Status;

using Act = std::function<Status(const Arguments&, int)>;

Act client(Status (*act)(const polykv::ClientCommand&, int)) {
  return [=](const Arguments& arguments, int signals) { return act(arguments.client, signals); };
}

const std::map<std::string, Act>& commands() {
  static const std::map<std::string, Act> all{
      {"run", [](const Arguments& a, int signals) { return polykv::run_job(a.run, signals); }},
      {"up", [](const Arguments& a, int signals) { return polykv::up(a.deployment, signals); }},
      {"eval", [](const Arguments& a, int signals) { return polykv::run_eval(a.eval, signals); }},
      {"ask", [](const Arguments& a, int signals) { return polykv::ask(a.ask, signals); }},
      {"chat", [](const Arguments& a, int signals) { return polykv::chat(a.chat, signals); }},
      {"status",
       [](const Arguments& a, int signals) { return polykv::show_status(a.status, signals); }},
      {"doctor", [](const Arguments& a, int signals) { return polykv::doctor(a.doctor, signals); }},
      {"append", client(polykv::append)},
      {"fork", client(polykv::fork)},
      {"drop", client(polykv::drop)},
      {"pin", client(polykv::pin)},
      {"unpin", client(polykv::unpin)},
      {"agent start", client(polykv::agent_start)},
      {"agent stop", client(polykv::agent_stop)},
      {"down", client(polykv::down)}};
  return all;
}

// The writer and the agents log as we do: they inherit it.
void start_logs(const polykv::Deployment& deployment) {
  ::setenv("POLYKV_LOG_LEVEL", deployment.log_level.c_str(), 1);
  ::setenv("POLYKV_LOG_FORMAT", deployment.log_format.c_str(), 1);
  const auto level = polykv::parse_log_level(deployment.log_level);
  const auto format = polykv::parse_log_format(deployment.log_format);
  polykv::start_log("polykv", level.value_or(polykv::LogLevel::info),
                    format.value_or(polykv::LogFormat::text));
}

Status carry_out(const Arguments& arguments) {
  auto signals = polykv::block_signals();
  if (!signals) return polykv::pass(signals);
  return commands().at(arguments.command)(arguments, signals->get());
}

}  // namespace

int main(int argc, char** argv) {
  const auto arguments = polykv::parse_arguments(argc, argv);
  if (!arguments) return arguments.error();
  if (arguments->print_config) {
    std::cout << print_config(arguments->deployment);
    return 0;
  }
  start_logs(arguments->deployment);
  const Status done = carry_out(*arguments);
  if (done) return 0;
  std::cerr << "polykv: " << done.error().message << '\n';
  return static_cast<int>(done.error().code);
}
