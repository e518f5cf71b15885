// CLI11 behind the small programs' command line.
#include "ipc/command_line.h"

#include <CLI/CLI.hpp>
#include <iostream>

namespace polykv {

struct CommandLine::State {
  State(const std::string& program, const std::string& purpose) : app(purpose, program) {}
  CLI::App app;
  std::string runtime, log_level, log_format = "text";
};

CommandLine::CommandLine(const std::string& program, const std::string& purpose,
                         const std::string& version)
    : state_(std::make_unique<State>(program, purpose)) {
  state_->app.set_version_flag("--version", version);
  text("--runtime", state_->runtime, "Runtime directory of the supervisor", Wanted::required,
       "POLYKV_RUNTIME");
  text("--log-level", state_->log_level, "debug, info, warning or error", Wanted::optional,
       "POLYKV_LOG_LEVEL");
  text("--log-format", state_->log_format, "text, or json: one object a line", Wanted::optional,
       "POLYKV_LOG_FORMAT");
}

CommandLine::~CommandLine() = default;

CommandLine& CommandLine::text(const std::string& name, std::string& value,
                               const std::string& meaning, Wanted wanted,
                               const std::string& environment) {
  CLI::Option* option = state_->app.add_option(name, value, meaning);
  if (wanted == Wanted::required) option->required();
  if (!environment.empty()) option->envname(environment);
  return *this;
}

CommandLine& CommandLine::number(const std::string& name, uint64_t& value,
                                 const std::string& meaning) {
  state_->app.add_option(name, value, meaning);
  return *this;
}

CommandLine& CommandLine::integer(const std::string& name, int64_t& value,
                                  const std::string& meaning) {
  state_->app.add_option(name, value, meaning);
  return *this;
}

CommandLine& CommandLine::threads(unsigned& value, const std::string& meaning) {
  state_->app.add_option("--threads", value, meaning)->check(CLI::Range(int64_t{1}, kThreadsMax));
  return *this;
}

CommandLine& CommandLine::lanes(unsigned& value, const std::string& meaning) {
  state_->app.add_option("--lanes", value, meaning)
      ->check(CLI::Range(int64_t{1}, kLanesMax))
      ->envname("POLYKV_LANES");
  return *this;
}

CommandLine& CommandLine::flag(const std::string& name, bool& value, const std::string& meaning) {
  state_->app.add_flag(name, value, meaning);
  return *this;
}

CommandLine& CommandLine::instead(const std::string& name, std::function<int()> act,
                                  const std::string& meaning) {
  // CLI11 calls this before it looks for what is missing.
  const auto run = [act = std::move(act)] { throw CLI::RuntimeError(act()); };
  state_->app.add_flag_callback(name, run, meaning);
  return *this;
}

std::optional<int> CommandLine::parse(int argc, char** argv) {
  try {
    state_->app.parse(argc, argv);
  } catch (const CLI::RuntimeError& done) {
    return done.get_exit_code();
  } catch (const CLI::ParseError& error) {
    return state_->app.exit(error) == 0 ? 0 : static_cast<int>(ErrorCode::usage);
  }
  const auto level = parse_log_level(state_->log_level.empty() ? "info" : state_->log_level);
  const auto format = parse_log_format(state_->log_format);
  if (level && format) return std::nullopt;
  std::cerr << (level ? format.error() : level.error()).message << '\n';
  return static_cast<int>(ErrorCode::usage);
}

const std::string& CommandLine::runtime() const { return state_->runtime; }

void CommandLine::start_log(const std::string& who, LogLevel otherwise) const {
  const LogLevel level = parse_log_level(state_->log_level).value_or(otherwise);
  polykv::start_log(who, level, parse_log_format(state_->log_format).value_or(LogFormat::text));
}

int exit_code(const Status& outcome) {
  if (outcome) return 0;
  log_line(LogLevel::error, outcome.error().message);
  return static_cast<int>(outcome.error().code);
}

}  // namespace polykv
