// The whole command line: parsed once for the file that it names, then again over that file.
#include "launch/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <thread>

#include "launch/config_file.h"
#include "launch/options_parts.h"
#include "launch/runtime_dir.h"

namespace polykv {
namespace {

std::string variable_of(const CLI::Option& option) {
  std::string name = "POLYKV_" + option.get_single_name();
  std::ranges::replace(name, '-', '_');
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::toupper(c); });
  return name;
}

// Gives every option of every command its variable, but only once that command is asked for: CLI11
// would read them for all commands there are, into the same places.
void name_variables(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands({})) {
    std::vector<std::pair<CLI::Option*, std::string>> names;
    for (CLI::Option* option : command->get_options()) {
      std::string name = option->get_envname();
      if (name.empty() && !option->get_positional()) name = variable_of(*option);
      if (name == kNoVariable || option == command->get_help_ptr()) name.clear();
      option->envname("");
      names.emplace_back(option, name);
    }
    command->preparse_callback([names](size_t) {
      for (const auto& [option, name] : names) option->envname(name);
    });
    name_variables(*command);
  }
}

void build(CLI::App& app, Draft& draft) {
  app.set_version_flag("--version", POLYKV_VERSION);
  app.add_flag("--verbose", draft.verbose, "Log what the supervisor does");
  app.require_subcommand(1);
  add_serving_commands(app, draft);
  add_client_commands(app, draft);
  name_variables(app);
}

std::string command_of(const CLI::App& app) {
  std::string words;
  for (const CLI::App* at = &app; !at->get_subcommands().empty();) {
    at = at->get_subcommands().front();
    words += (words.empty() ? "" : " ") + at->get_name();
  }
  return words;
}

// A value that nobody typed is found sooner when its variable is named.
void say_variables(const CLI::App& app) {
  for (const CLI::App* at = &app; !at->get_subcommands().empty();) {
    at = at->get_subcommands().front();
    for (const CLI::Option* option : at->get_options()) {
      const std::string name = option->get_envname();
      const char* value = name.empty() ? nullptr : std::getenv(name.c_str());
      if (value == nullptr) continue;
      std::cerr << "(" << name << "=" << value << " is in the environment)\n";
    }
  }
}

// One pass over the command line into `draft`; an exit code if the program is to end.
std::optional<int> parse_once(int argc, const char* const* argv, Draft& draft) {
  CLI::App app(
      "polykv: many agent processes over one compressed, shared KV pool.\n"
      "Every option of a command is also a variable: --max-tokens is POLYKV_MAX_TOKENS.\n"
      "Exit codes: 0 ok; the others are listed in the README.",
      "polykv");
  build(app, draft);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (app.exit(error) == 0) return 0;
    say_variables(app);
    return static_cast<int>(ErrorCode::usage);
  }
  draft.arguments.command = command_of(app);
  const bool evaluates = app.got_subcommand("eval");
  // eval has one agent at a time.
  if (evaluates && app.get_subcommand("eval")->count("--threads") == 0) {
    draft.arguments.deployment.threads = draft.arguments.deployment.writer_threads;
  }
  const bool quiet = evaluates || app.got_subcommand("run");
  if (quiet && app.get_subcommands().front()->count("--log-level") == 0 && !draft.verbose) {
    draft.arguments.deployment.log_level = "warning";
  }
  return std::nullopt;
}

Draft defaults() {
  Draft draft;
  draft.runtime = default_runtime_path();
  draft.arguments.deployment.runtime = draft.runtime;  // unless the file has another
  draft.arguments.deployment.writer_threads = std::max(1U, std::thread::hardware_concurrency());
  return draft;
}

// The pool that up's flags describe: over the file's of that name, or one more.
void place_pool(Draft& draft) {
  std::vector<PoolEntry>& pools = draft.arguments.deployment.pools;
  const std::string name = draft.pool.value_or(PoolEntry().name);
  auto pool = std::ranges::find(pools, name, &PoolEntry::name);
  if (pool == pools.end()) {
    if (draft.context.empty() && draft.agents.value_or(0) == 0) return;
    pool = pools.insert(pools.end(), PoolEntry{.name = name, .model = {}, .context = {}});
  }
  if (!draft.context.empty()) pool->context = draft.context;
  pool->codec = draft.codec.value_or(pool->codec);
  pool->ttl_seconds = draft.ttl.value_or(pool->ttl_seconds);
  pool->agents = draft.agents.value_or(pool->agents);
}

// What a command needs before it can begin.
Status finish(Draft& draft) {
  Arguments& a = draft.arguments;
  Deployment& deployment = a.deployment;
  if (!draft.models.empty()) {
    deployment.models.clear();
    for (const std::string& model : draft.models) deployment.models.push_back(parse_model(model));
  }
  for (ModelEntry& model : deployment.models) {
    if (!draft.chat_format.empty()) model.chat_format = draft.chat_format;
  }
  if (!draft.budget.empty()) {
    auto budget = parse_size(draft.budget);
    if (!budget) return pass(budget);
    deployment.budget_bytes = *budget;
  }
  if (a.command == "up") place_pool(draft);
  deployment.runtime = draft.runtime;
  complete(deployment);
  a.ask.runtime = a.chat.ask.runtime = a.client.runtime = a.status.runtime = deployment.runtime;
  a.doctor.runtime = deployment.runtime;
  a.doctor.writer = deployment.writer;
  a.doctor.agent_program = deployment.agent_program;
  const bool alone = a.command == "run" || a.command == "eval";
  if (alone || a.command == "up") {
    if (auto good = check_deployment(deployment); !good) return good;
  }
  if (alone && deployment.models.size() > 1) {
    return fail(ErrorCode::usage, cat(a.command, " takes one --model"),
                cat(deployment.models.size()), "1");
  }
  a.run.supervisor = a.eval.supervisor = supervisor_options(deployment);
  if (!draft.private_runtime.empty()) {
    a.run.runtime = a.eval.runtime = std::filesystem::absolute(draft.private_runtime).string();
  }
  return {};
}

int report(const Error& error) {
  std::cerr << "polykv: " << error.message << '\n';
  return static_cast<int>(error.code);
}

}  // namespace

CLI::Option* known_as(CLI::Option* option, const char* variable) {
  return option->envname(variable);
}

CLI::Option* add_runtime(CLI::App& app, std::string& runtime) {
  return app.add_option("--runtime", runtime, "Runtime directory (sockets; mode 0700)");
}

std::expected<Arguments, int> parse_arguments(int argc, const char* const* argv) {
  Draft first = defaults();
  if (const auto code = parse_once(argc, argv, first)) return std::unexpected(*code);
  if (first.config.empty()) {
    if (auto good = finish(first); !good) return std::unexpected(report(good.error()));
    return first.arguments;
  }
  Draft second = defaults();
  auto file = read_config(first.config, second.arguments.deployment);
  if (!file) return std::unexpected(report(file.error()));
  second.arguments.deployment = *file;
  second.runtime = file->runtime;
  if (const auto code = parse_once(argc, argv, second)) return std::unexpected(*code);
  if (auto good = finish(second); !good) return std::unexpected(report(good.error()));
  return second.arguments;
}

}  // namespace polykv
