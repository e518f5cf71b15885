// The parts of the command line (options*.cpp only). CLI11 stays out of our headers.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launch/options.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace polykv {

// Arguments on their way: what cannot be written into its place before all is known.
struct Draft {
  Arguments arguments;
  std::string config;               // path of the file, "" = none
  std::vector<std::string> models;  // --model, which replace the file's
  std::string chat_format;          // --chat-format, of all models
  std::string budget;
  std::optional<std::string> pool, codec;  // up's one pool by flags
  std::optional<int64_t> ttl, agents;
  std::vector<std::string> context;
  std::string runtime, private_runtime;  // of all but run and eval; of these
  bool verbose = false;
};

void add_serving_commands(CLI::App& app, Draft& draft);  // run, up, eval
void add_client_commands(CLI::App& app, Draft& draft);   // all others
void add_sampling_options(CLI::App& app, AskOptions& options);
void add_logprob_options(CLI::App& app, AskOptions& options);

// The environment variable in place of POLYKV_<OPTION> where that would mean two things; then the
// common rule leaves the option alone.
CLI::Option* known_as(CLI::Option* option, const char* variable);
CLI::Option* add_runtime(CLI::App& app, std::string& runtime);

// An option that the common rule gives no variable: it asks for an act, it sets nothing.
inline constexpr const char* kNoVariable = "-";

}  // namespace polykv
