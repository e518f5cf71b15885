// polykv-writer: connects to a supervisor and serves its jobs until it goes away.
#include <csignal>
#include <thread>

#include "ipc/command_line.h"
#include "ipc/isa.h"
#include "ipc/log.h"
#include "model/prefill_path.h"
#include "writer/writer.h"

namespace {

polykv::Status serve(const std::string& runtime, polykv::WriterOptions options) {
  auto socket = polykv::FdSocket::connect(runtime + "/fd");
  if (!socket) return polykv::pass(socket);
  return polykv::Writer(std::move(*socket), std::move(options)).serve();
}

// Fallbacks are told to the supervisor, which shows them, and logged for who started this by hand.
void fall_back(polykv::WriterOptions& options, const std::string& what) {
  polykv::log_line(polykv::LogLevel::warning, what);
  options.fallbacks.push_back(what);
}

// The decoder's kernels for packed weights, where this processor has faster ones than libtorch's,
// and the prefill's own tiles.
polykv::Status choose_kernels(const std::string& isa, polykv::WriterOptions& options) {
  if (auto good = polykv::check_isa(isa); !good) return good;
  auto chosen = polykv::choose_matrix_kernels(isa);
  if (!chosen) return polykv::pass(chosen);
  const std::string_view name = chosen->set.name;
  for (const std::string_view refused : chosen->refused) {
    fall_back(options, polykv::cat("matrix kernels ", refused, " failed their self-test, ", name,
                                   " is used"));
  }
  if (name == "amx" || name == "avx512") options.kernels = chosen->set;
  options.tiles = !polykv::tiles_failed(&chosen->set);
  if (!options.tiles) {
    fall_back(options, "a prefill's tiles failed their self-test, 16-bit products are used");
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGINT, SIG_IGN);  // Ctrl-C is the supervisor's; it ends its children itself
  polykv::WriterOptions options;
  options.n_threads = std::max(1U, std::thread::hardware_concurrency());
  polykv::CommandLine line("polykv-writer", "polykv-writer: prefills and encodes for polykv",
                           POLYKV_VERSION);
  line.threads(options.n_threads, "Threads for packing and prefill");
  line.text("--chat-format", options.chat_format,
            "Name of the chat format; default: the model file's");
  line.text("--model", options.model, "Name of the model in the runtime; default: its first");
  line.text("--image-cache", options.image_cache,
            "Directory that keeps packed models for the next start; default: none",
            polykv::Wanted::optional, "POLYKV_IMAGE_CACHE");
  std::string isa;
  line.text("--isa", isa, "Force kernels by name (ref, avx2, avx512, avx512vbmi, amx)",
            polykv::Wanted::optional, "POLYKV_ISA");
  if (const auto code = line.parse(argc, argv)) return *code;
  line.start_log("writer", polykv::LogLevel::info);
  if (auto chosen = choose_kernels(isa, options); !chosen) return polykv::exit_code(chosen);
  return polykv::exit_code(serve(line.runtime(), std::move(options)));
}
