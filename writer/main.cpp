// polykv-writer: connects to a supervisor and serves its jobs until it goes away.
#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>
#include <thread>

#include "ipc/log.h"
#include "writer/writer.h"

namespace {

int run(const std::string& runtime, unsigned n_threads) {
  auto socket = polykv::FdSocket::connect(runtime + "/fd");
  polykv::Status served;
  if (socket) {
    served = polykv::Writer(std::move(*socket), {.n_threads = n_threads, .finish = {}}).serve();
  } else {
    served = polykv::pass(socket);
  }
  if (served) return 0;
  polykv::log_line(polykv::LogLevel::error, served.error().message);
  return static_cast<int>(served.error().code);
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGINT, SIG_IGN);  // Ctrl-C is the supervisor's; it ends its children itself
  CLI::App app("polykv-writer: prefills and encodes for a polykv supervisor", "polykv-writer");
  std::string runtime;
  unsigned n_threads = std::max(1U, std::thread::hardware_concurrency());
  app.set_version_flag("--version", POLYKV_VERSION);
  app.add_option("--runtime", runtime, "Runtime directory of the supervisor")->required();
  app.add_option("--threads", n_threads, "Threads for prefill")->check(CLI::Range(1, 1024));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(polykv::ErrorCode::usage);
  }
  polykv::start_log("writer", polykv::LogLevel::info);
  return run(runtime, n_threads);
}
