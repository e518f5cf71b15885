// polykv-agent: attaches to a supervisor's pool and serves generations until it is stopped.
#include <CLI/CLI.hpp>
#include <csignal>

#include "agents/agent.h"
#include "ipc/log.h"
#include "ipc/process.h"

namespace {

int run(const polykv::AgentOptions& options) {
  auto agent = polykv::Agent::attach(options);
  polykv::Status served = agent ? (*agent)->serve() : polykv::Status(polykv::pass(agent));
  if (served) return 0;
  polykv::log_line(polykv::LogLevel::error, served.error().message);
  return static_cast<int>(served.error().code);
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGINT, SIG_IGN);  // Ctrl-C is the supervisor's; it ends its children itself
  CLI::App app("polykv-agent: generates over a polykv supervisor's shared pool", "polykv-agent");
  polykv::AgentOptions options;
  options.started_ns = polykv::monotonic_ns();  // unless whoever asked for it says earlier
  app.set_version_flag("--version", POLYKV_VERSION);
  app.add_option("--runtime", options.attach.runtime, "Runtime directory of the supervisor")
      ->required();
  app.add_option("--agent", options.attach.agent, "This agent's name")->required();
  app.add_option("--pool", options.attach.pool, "Pool to attach to")->required();
  app.add_option("--pool-version", options.attach.version, "Version of the pool; 0 = current");
  app.add_option("--fingerprint", options.attach.fingerprint,
                 "Refuse a pool that another model made (32 hexadecimal digits)");
  app.add_option("--threads", options.n_threads, "Threads for decoding")
      ->check(CLI::Range(1, 1024));
  app.add_option("--isa", options.isa, "Force kernels by name (ref, avx2, avx512)")
      ->envname("POLYKV_ISA");
  app.add_flag("--verify", options.verify, "Check every checksum of the pool before use");
  app.add_option("--started-ns", options.started_ns,
                 "Monotonic clock when the process was asked for (attach time counts from it)");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(polykv::ErrorCode::usage);
  }
  polykv::start_log("agent " + options.attach.agent, polykv::LogLevel::warning);
  return run(options);
}
