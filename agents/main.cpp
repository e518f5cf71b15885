// polykv-agent: attaches to a supervisor's pool and serves generations until it is stopped.
#include <csignal>
#include <iostream>

#include "agents/agent.h"
#include "agents/doctor.h"
#include "ipc/command_line.h"
#include "ipc/isa.h"
#include "ipc/process.h"

namespace {

polykv::Status serve(const polykv::AgentOptions& options) {
  if (auto good = polykv::check_isa(options.isa); !good) return good;
  auto agent = polykv::Agent::attach(options);
  return agent ? (*agent)->serve() : polykv::Status(polykv::pass(agent));
}

int print_kernels() {
  std::cout << polykv::examine_kernels().dump() << '\n';
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  using polykv::Wanted;
  std::signal(SIGINT, SIG_IGN);  // Ctrl-C is the supervisor's; it ends its children itself
  polykv::AgentOptions options;
  polykv::AttachOptions& attach = options.attach;
  options.started_ns = polykv::monotonic_ns();  // unless whoever asked for it says earlier
  polykv::CommandLine line("polykv-agent", "polykv-agent: generates over a polykv runtime's pool",
                           POLYKV_VERSION);
  line.text("--agent", attach.agent, "This agent's name", Wanted::required)
      .text("--model", attach.model, "Name of the pool's model in the runtime; without, its first")
      .text("--pool", attach.pool, "Pool to attach to", Wanted::required)
      .number("--pool-version", attach.version, "Version of the pool; 0 = current")
      .text("--fingerprint", attach.fingerprint,
            "Refuse a pool that another model made (32 hexadecimal digits)")
      .threads(options.n_threads, "Threads for decoding")
      .lanes(options.n_lanes, "Generations at once in this process; they share every pass")
      .text("--isa", options.isa, "Force kernels by name (ref, avx2, avx512, avx512vbmi, amx)",
            Wanted::optional, "POLYKV_ISA")
      .flag("--verify", options.verify, "Check every checksum of the pool before use")
      .integer("--started-ns", options.started_ns,
               "Monotonic clock when the process was asked for (attach time counts from it)")
      .instead("--doctor", print_kernels, "Print what this processor's kernels are, as JSON");
  if (const auto code = line.parse(argc, argv)) return *code;
  attach.runtime = line.runtime();
  line.start_log("agent " + attach.agent, polykv::LogLevel::warning);
  return polykv::exit_code(serve(options));
}
