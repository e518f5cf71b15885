// Options of the commands that are a runtime: run, up, eval.
#include <CLI/CLI.hpp>

#include "launch/options_parts.h"

namespace polykv {
namespace {

template <class Value>
CLI::Option* add_threads(CLI::App& app, const char* name, Value& value, const char* meaning) {
  return app.add_option(name, value, meaning)->check(CLI::Range(int64_t{1}, kThreadsMax));
}

void add_supervisor_options(CLI::App& app, Draft& draft) {
  Deployment& deployment = draft.arguments.deployment;
  app.add_option("--model", draft.models,
                 "Model: a GGUF file or a folder with safetensors; or NAME=FILE")
      ->delimiter('\n');
  app.add_option(
      "--chat-format", draft.chat_format,
      "How messages are written (chatml, llama3, …, plain); default: as the model's file "
      "says");
  app.add_option("--budget", draft.budget, "Limit of shared memory, e.g. 500MB (image and pools)");
  add_threads(app, "--threads", deployment.threads,
              "Threads of each agent; default: cores / agents");
  add_threads(app, "--writer-threads", deployment.writer_threads,
              "Threads for packing and prefill");
  app.add_option("--image-cache", deployment.image_cache,
                 "Directory that keeps packed models for the next start; default: none");
  app.add_option("--isa", deployment.isa,
                 "Force agents' kernels by name (ref, avx2, avx512, avx512vbmi, amx)");
  app.add_option("--writer", deployment.writer,
                 "Path of polykv-writer, or none: it is started by hand");
  app.add_option("--agent-program", deployment.agent_program, "Path of polykv-agent");
  app.add_option("--log-level", deployment.log_level, "debug, info, warning or error");
  app.add_option("--log-format", deployment.log_format, "text, or json: one object a line");
}

void add_lanes(CLI::App& app, Draft& draft) {
  app.add_option("--lanes", draft.arguments.deployment.lanes,
                 "Generations at once in each agent process")
      ->check(CLI::Range(int64_t{1}, kLanesMax))
      ->capture_default_str();
}

void add_run(CLI::App& app, Draft& draft) {
  RunOptions& options = draft.arguments.run;
  CLI::App* run = app.add_subcommand("run", "One document, N agents, their questions, one report");
  add_supervisor_options(*run, draft);
  add_lanes(*run, draft);
  add_sampling_options(*run, options.ask);
  add_logprob_options(*run, options.ask);
  known_as(add_runtime(*run, draft.private_runtime), kNoVariable)
      ->description("Runtime directory; default: a private one");
  run->add_option("--context", options.context, "Files, directories, or - for standard input")
      ->delimiter('\n')
      ->required();
  run->add_option("--questions", options.questions, "File with one question a line, or -")
      ->required();
  run->add_option("--agents", options.n_agents, "Agent processes")->capture_default_str();
  run->add_option("--codec", options.codec, "k<b>v<b> with b in 2,3,4,5,6,8; f16, f32, paper")
      ->capture_default_str();
  known_as(run->add_option("--json", options.json, "Write the report to this file, too"),
           "POLYKV_JSON_FILE");
}

void add_up(CLI::App& app, Draft& draft) {
  CLI::App* up = app.add_subcommand("up", "Start a runtime and keep it until Ctrl-C or 'down'");
  up->add_option("--config", draft.config,
                 "Deployment as a TOML file; flags and variables go first");
  known_as(up->add_flag("--print-config", draft.arguments.print_config,
                        "Print what would be started, as such a file, and end"),
           kNoVariable);
  add_supervisor_options(*up, draft);
  add_lanes(*up, draft);
  up->get_option("--model")->description(
      "Model: a GGUF file or a folder with safetensors; or NAME=FILE; several may be named");
  add_runtime(*up, draft.runtime);
  up->add_option("--context", draft.context, "Files, directories, or - for the first pool")
      ->delimiter('\n');
  up->add_option("--pool", draft.pool, "Name of that pool; default: main");
  up->add_option("--codec", draft.codec, "Its codec; default: k4v4");
  up->add_option("--ttl", draft.ttl, "Drop it when unused for so many seconds; 0 = never")
      ->check(CLI::Range(int64_t{0}, kSecondsMax));
  up->add_option("--agents", draft.agents, "Agents to start over it");
}

void add_eval(CLI::App& app, Draft& draft) {
  EvalOptions& options = draft.arguments.eval;
  CLI::App* eval = app.add_subcommand("eval", "Measure what codecs cost on a model and a text");
  add_supervisor_options(*eval, draft);
  known_as(add_runtime(*eval, draft.private_runtime), kNoVariable)
      ->description("Runtime directory; default: a private one");
  eval->add_option("--text", options.text, "Text files (at least 5,120 tokens)")
      ->delimiter('\n')
      ->required();
  eval->add_option("--codecs", options.codecs, "Codecs, separated by commas")
      ->delimiter(',')
      ->required();
  eval->add_option("--windows", options.n_windows, "Windows of 2,560 tokens; the protocol has 2")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  eval->add_flag("--arithmetic", options.arithmetic,
                 "Measure instead what agents' rounding to integers costs (1,152 tokens, slow)");
  eval->add_flag("--per-layer", options.per_layer,
                 "Also K, V and the errors of each layer, in the first window")
      ->excludes("--arithmetic");
  known_as(eval->add_option("--json", options.json, "Write the rows to this file, too"),
           "POLYKV_JSON_FILE");
}

}  // namespace

void add_serving_commands(CLI::App& app, Draft& draft) {
  add_run(app, draft);
  add_up(app, draft);
  add_eval(app, draft);
}

}  // namespace polykv
