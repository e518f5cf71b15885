// The command line of polykv-agent and polykv-writer: what both understand, and how both end.
// Every program that a supervisor starts takes --runtime, --log-level and --log-format, and each of
// them also from the environment, which it inherits.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "ipc/log.h"

namespace polykv {

// How much of this machine one process may ask for: more is a slip of the hand.
inline constexpr int64_t kThreadsMax = 1024;
inline constexpr int64_t kLanesMax = 64;  // independent generations in one agent process

enum class Wanted { required, optional };

class CommandLine {
 public:
  CommandLine(const std::string& program, const std::string& purpose, const std::string& version);
  // The value is the default. environment: name of a variable to fall back on, "" = none.
  CommandLine& text(const std::string& name, std::string& value, const std::string& meaning,
                    Wanted wanted = Wanted::optional, const std::string& environment = "");
  CommandLine& number(const std::string& name, uint64_t& value, const std::string& meaning);
  CommandLine& integer(const std::string& name, int64_t& value, const std::string& meaning);
  CommandLine& threads(unsigned& value, const std::string& meaning);  // 1..kThreadsMax
  CommandLine& lanes(unsigned& value, const std::string& meaning);    // 1..kLanesMax
  CommandLine& flag(const std::string& name, bool& value, const std::string& meaning);
  // Does this instead of anything else, required options or not; `act` returns the exit code.
  CommandLine& instead(const std::string& name, std::function<int()> act,
                       const std::string& meaning);

  // What to exit with if the program is to end now (help, version, usage error); else fills the
  // values in and nullopt.
  std::optional<int> parse(int argc, char** argv);

  const std::string& runtime() const;
  void start_log(const std::string& who, LogLevel otherwise) const;

  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;
  ~CommandLine();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Logs a failure; what main() returns.
int exit_code(const Status& outcome);

}  // namespace polykv
