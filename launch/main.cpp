// polykv: the command line.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <thread>

#include "ipc/log.h"
#include "launch/commands.h"
#include "launch/eval.h"
#include "launch/run_job.h"

namespace {

using polykv::Status;

// Everything that the options are parsed into.
struct Arguments {
  polykv::SupervisorOptions supervisor;
  polykv::RunOptions run;
  polykv::UpOptions up;
  polykv::AskCommand ask;
  polykv::EvalOptions eval;
  polykv::AskOptions sampling;
  std::string runtime = polykv::default_runtime_path();
  std::string private_runtime;
  std::string append_pool = "main";
  std::vector<std::string> append_paths;
  std::string pool, fork_to;  // of fork and drop
  int64_t fork_version = 0;
  uint64_t budget = 0;
  bool status_json = false;
  bool verbose = false;
};

void add_supervisor_options(CLI::App& app, Arguments& a) {
  const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
  a.supervisor.writer_threads = cores;
  app.add_option("--model", a.supervisor.model_path, "Model file (GGUF)")->required();
  app.add_option("--budget", a.budget, "Limit of shared memory, e.g. 500MB (image and pools)")
      ->transform(CLI::AsSizeValue(true));
  app.add_option("--threads", a.supervisor.agent_threads, "Threads of each agent")
      ->check(CLI::Range(1, 1024));
  app.add_option("--writer-threads", a.supervisor.writer_threads, "Threads for prefill")
      ->check(CLI::Range(1, 1024));
  app.add_option("--isa", a.supervisor.isa, "Force agents' kernels by name (ref, avx2, avx512)")
      ->envname("POLYKV_ISA");
  app.add_option("--writer", a.supervisor.writer_program, "Path of polykv-writer");
  app.add_option("--agent-program", a.supervisor.agent_program, "Path of polykv-agent");
}

void add_sampling_options(CLI::App& app, polykv::AskOptions& o) {
  app.add_option("--max-tokens", o.max_tokens, "Longest answer")
      ->check(CLI::Range(int64_t{1}, int64_t{1'000'000}));
  app.add_option("--min-tokens", o.min_tokens, "Shortest answer")
      ->check(CLI::Range(int64_t{0}, int64_t{1'000'000}));
  app.add_flag("--ignore-eos", o.ignore_eos, "Always generate --max-tokens tokens");
  app.add_option("--temperature", o.temperature, "0 = greedy");
  app.add_option("--top-k", o.top_k, "0 = off")->check(CLI::Range(int64_t{0}, int64_t{1'000'000}));
  app.add_option("--top-p", o.top_p, "1 = off");
  app.add_option("--min-p", o.min_p, "0 = off");
  app.add_option("--repetition-penalty", o.repetition_penalty, "1 = off");
  app.add_option("--seed", o.seed, "Seed of the sampler");
  app.add_option("--stop", o.stop, "Strings that end an answer");
}

CLI::Option* add_runtime(CLI::App& app, std::string& runtime) {
  return app.add_option("--runtime", runtime, "Runtime directory (sockets; mode 0700)");
}

void add_run(CLI::App& app, Arguments& a) {
  CLI::App* run = app.add_subcommand("run", "One document, N agents, their questions, one report");
  add_supervisor_options(*run, a);
  add_sampling_options(*run, a.run.ask);
  add_runtime(*run, a.private_runtime)->description("Runtime directory; default: a private one");
  run->add_option("--context", a.run.context, "Files, directories, or - for standard input")
      ->required();
  run->add_option("--questions", a.run.questions, "File with one question a line, or -")
      ->required();
  run->add_option("--agents", a.run.n_agents, "Agent processes")->capture_default_str();
  run->add_option("--codec", a.run.codec, "k<b>v<b> with b in 2,3,4,5,6,8; f16, f32, paper")
      ->capture_default_str();
  run->add_option("--json", a.run.json, "Write the report to this file, too");
}

void add_up(CLI::App& app, Arguments& a) {
  CLI::App* up = app.add_subcommand("up", "Start a runtime and keep it until Ctrl-C or 'down'");
  add_supervisor_options(*up, a);
  add_runtime(*up, a.runtime)->envname("POLYKV_RUNTIME");
  up->add_option("--context", a.up.context, "Files, directories, or - for the first pool");
  up->add_option("--pool", a.up.pool, "Name of that pool")->capture_default_str();
  up->add_option("--codec", a.up.codec, "Its codec")->capture_default_str();
  up->add_option("--agents", a.up.n_agents, "Agents to start over it");
}

void add_clients(CLI::App& app, Arguments& a) {
  CLI::App* ask = app.add_subcommand("ask", "Ask one question and stream the answer");
  a.ask.ask.max_tokens = 256;
  add_runtime(*ask, a.runtime)->envname("POLYKV_RUNTIME");
  add_sampling_options(*ask, a.ask.ask);
  ask->add_option("question", a.ask.question, "The question")->required();
  ask->add_option("--pool", a.ask.pool, "Pool")->capture_default_str();
  ask->add_option("--pool-version", a.ask.version, "Version of the pool; 0 = current");
  ask->add_option("--agent", a.ask.agent, "This agent and no other");
  ask->add_flag("--json", a.ask.json, "Print the whole answer as JSON");

  CLI::App* append = app.add_subcommand("append", "Add text to a pool: a new version");
  add_runtime(*append, a.runtime)->envname("POLYKV_RUNTIME");
  append->add_option("files", a.append_paths, "Files, directories, or -")->required();
  append->add_option("--pool", a.append_pool, "Pool")->capture_default_str();

  CLI::App* fork = app.add_subcommand("fork", "A new pool with a pool's memory: nothing is copied");
  add_runtime(*fork, a.runtime)->envname("POLYKV_RUNTIME");
  fork->add_option("pool", a.pool, "Pool")->required();
  fork->add_option("new", a.fork_to, "Name of the new pool")->required();
  fork->add_option("--pool-version", a.fork_version, "Version of the pool; 0 = current");

  CLI::App* drop = app.add_subcommand("drop", "Forget a pool; agents on it may finish");
  add_runtime(*drop, a.runtime)->envname("POLYKV_RUNTIME");
  drop->add_option("pool", a.pool, "Pool")->required();

  CLI::App* status = app.add_subcommand("status", "Pools, agents, memory");
  add_runtime(*status, a.runtime)->envname("POLYKV_RUNTIME");
  status->add_flag("--json", a.status_json, "As JSON");

  CLI::App* down = app.add_subcommand("down", "End a runtime and everything in it");
  add_runtime(*down, a.runtime)->envname("POLYKV_RUNTIME");
}

void add_eval(CLI::App& app, Arguments& a) {
  CLI::App* eval = app.add_subcommand("eval", "Measure what codecs cost on a model and a text");
  add_supervisor_options(*eval, a);
  add_runtime(*eval, a.private_runtime)->description("Runtime directory; default: a private one");
  eval->add_option("--text", a.eval.text, "Text files (at least 5,120 tokens)")->required();
  eval->add_option("--codecs", a.eval.codecs, "Codecs, separated by commas")
      ->delimiter(',')
      ->required();
  eval->add_option("--windows", a.eval.n_windows, "Windows of 2,560 tokens; the protocol has 2")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  eval->add_option("--json", a.eval.json, "Write the rows to this file, too");
}

// The writer and the agents are other processes: what a path means must not depend on who reads it.
void make_absolute(std::string& path) {
  if (!path.empty()) path = std::filesystem::absolute(path).string();
}

// Defaults that depend on what was said.
void complete(CLI::App& app, Arguments& a) {
  const std::string here = polykv::program_directory();
  if (a.supervisor.writer_program.empty()) a.supervisor.writer_program = here + "/polykv-writer";
  if (a.supervisor.agent_program.empty()) a.supervisor.agent_program = here + "/polykv-agent";
  for (std::string* path : {&a.supervisor.model_path, &a.supervisor.writer_program,
                            &a.supervisor.agent_program, &a.runtime, &a.private_runtime}) {
    make_absolute(*path);
  }
  if (a.budget > 0) a.supervisor.budget = a.budget;
  if (app.got_subcommand("eval") && app.get_subcommand("eval")->count("--threads") == 0) {
    a.supervisor.agent_threads = a.supervisor.writer_threads;  // one agent at a time
  }
  a.supervisor.restart_agents = app.got_subcommand("up");
  a.run.supervisor = a.up.supervisor = a.eval.supervisor = a.supervisor;
  a.run.runtime = a.eval.runtime = a.private_runtime;
  a.up.runtime = a.ask.runtime = a.runtime;
}

Status dispatch(const CLI::App& app, const Arguments& a, int signals) {
  if (app.got_subcommand("run")) return polykv::run_job(a.run, signals);
  if (app.got_subcommand("up")) return polykv::up(a.up, signals);
  if (app.got_subcommand("ask")) return polykv::ask(a.ask, signals);
  if (app.got_subcommand("append")) {
    return polykv::append(a.runtime, a.append_pool, a.append_paths, signals);
  }
  if (app.got_subcommand("fork")) {
    return polykv::fork(a.runtime, a.pool, a.fork_version, a.fork_to, signals);
  }
  if (app.got_subcommand("drop")) return polykv::drop(a.runtime, a.pool, signals);
  if (app.got_subcommand("status")) return polykv::show_status(a.runtime, a.status_json, signals);
  if (app.got_subcommand("down")) return polykv::down(a.runtime, signals);
  return polykv::run_eval(a.eval, signals);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "polykv: many agent processes over one compressed, shared KV pool.\n"
      "Exit codes: 0 ok; the others are listed in the README.",
      "polykv");
  Arguments arguments;
  app.set_version_flag("--version", POLYKV_VERSION);
  app.add_flag("--verbose", arguments.verbose, "Log what the supervisor does");
  app.require_subcommand(1);
  add_run(app, arguments);
  add_up(app, arguments);
  add_clients(app, arguments);
  add_eval(app, arguments);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : static_cast<int>(polykv::ErrorCode::usage);
  }
  complete(app, arguments);
  const bool talkative = arguments.verbose || app.got_subcommand("up");
  polykv::start_log("polykv", talkative ? polykv::LogLevel::info : polykv::LogLevel::warning);
  auto signals = polykv::block_signals();
  const Status done =
      signals ? dispatch(app, arguments, signals->get()) : Status(polykv::pass(signals));
  if (done) return 0;
  std::cerr << "polykv: " << done.error().message << '\n';
  return static_cast<int>(done.error().code);
}
