// Options of the commands that talk to a running system, and of doctor.
#include <CLI/CLI.hpp>

#include "launch/options_parts.h"

namespace polykv {
namespace {

constexpr int64_t kVersionMax = int64_t{1} << 53;

// In the environment of `up`, POLYKV_MODEL is a file.
void add_model(CLI::App& app, std::string& model) {
  known_as(app.add_option("--model", model, "Name of the model; default: the runtime's first"),
           "POLYKV_MODEL_NAME");
}

CLI::Option* add_version(CLI::App& app, int64_t& version) {
  return app.add_option("--pool-version", version, "Version of the pool; 0 = current")
      ->check(CLI::Range(int64_t{0}, kVersionMax));
}

void add_deadline(CLI::App& app, double& seconds) {
  app.add_option("--deadline", seconds, "Give up after so many seconds; default: 3600")
      ->check(CLI::Range(0.001, 1e6));
}

void add_ttl(CLI::App& app, int64_t& seconds, const char* meaning) {
  app.add_option("--ttl", seconds, meaning)->check(CLI::Range(int64_t{1}, kSecondsMax));
}

CLI::App* add_command(CLI::App& app, Draft& draft, const char* name, const char* meaning) {
  CLI::App* command = app.add_subcommand(name, meaning);
  add_runtime(*command, draft.runtime);
  return command;
}

// What ask and chat have in common.
void add_question_options(CLI::App& app, AskCommand& command) {
  command.ask.max_tokens = 256;
  add_sampling_options(app, command.ask);
  app.add_option("--pool", command.pool, "Pool")->capture_default_str();
  add_model(app, command.model);
  app.add_option("--agent", command.agent, "This agent and no other");
  add_deadline(app, command.deadline_seconds);
}

void add_ask_and_chat(CLI::App& app, Draft& draft) {
  AskCommand& command = draft.arguments.ask;
  CLI::App* ask = add_command(app, draft, "ask", "Ask one question and stream the answer");
  add_question_options(*ask, command);
  ask->add_option("question", command.question, "The question")->required();
  add_logprob_options(*ask, command.ask);
  CLI::Option* version = add_version(*ask, command.version);
  ask->add_option("--at-least", command.at_least, "Wait until the pool has this version")
      ->check(CLI::Range(int64_t{1}, kVersionMax))
      ->excludes(version);
  ask->add_flag("--json", command.json, "Print the whole answer as JSON");

  ChatCommand& talk = draft.arguments.chat;
  CLI::App* chat = add_command(app, draft, "chat", "A conversation with one agent; /help in it");
  add_question_options(*chat, talk.ask);
  add_version(*chat, talk.ask.version);
  chat->add_flag("--verbose", talk.verbose, "After each answer: tokens, reuse, speed");
}

void add_pools(CLI::App& app, Draft& draft) {
  ClientCommand& client = draft.arguments.client;
  CLI::App* append = add_command(app, draft, "append", "Add text to a pool: a new version");
  append->add_option("files", client.paths, "Files, directories, or -")->required();
  append->add_option("--pool", client.pool, "Pool")->capture_default_str();
  append->add_option("--role", client.role, "Whose message the text is; default: as the pool's")
      ->check(CLI::IsMember({"system", "user", "assistant"}));
  add_deadline(*append, client.deadline_seconds);

  CLI::App* fork = add_command(app, draft, "fork", "A new pool with a pool's memory, not copied");
  fork->add_option("pool", client.pool, "Pool")->required();
  fork->add_option("new", client.to, "Name of the new pool")->required();
  add_version(*fork, client.version);
  add_ttl(*fork, client.ttl_seconds, "Drop the new pool when unused for so many seconds");

  CLI::App* drop = add_command(app, draft, "drop", "Forget a pool; agents on it may finish");
  drop->add_option("pool", client.pool, "Pool")->required();

  CLI::App* pin = add_command(app, draft, "pin", "Keep a version although a newer one is current");
  pin->add_option("pool", client.pool, "Pool")->required();
  add_version(*pin, client.version);
  add_ttl(*pin, client.ttl_seconds, "Let it go after so many seconds");

  CLI::App* unpin = add_command(app, draft, "unpin", "Let a pinned version go");
  unpin->add_option("pool", client.pool, "Pool")->required();
  add_version(*unpin, client.version)->required();
  for (CLI::App* command : {append, fork, drop, pin, unpin}) add_model(*command, client.model);
}

void add_agents(CLI::App& app, Draft& draft) {
  ClientCommand& client = draft.arguments.client;
  CLI::App* agent = app.add_subcommand("agent", "Start and stop agents");
  agent->require_subcommand(1);
  CLI::App* start = add_command(*agent, draft, "start", "Start agents over a pool");
  start->add_option("-n,--count", client.count, "How many")->capture_default_str();
  start->add_option("--pool", client.pool, "Pool")->capture_default_str();
  add_version(*start, client.version);
  add_model(*start, client.model);
  add_deadline(*start, client.deadline_seconds);
  CLI::App* stop = add_command(*agent, draft, "stop", "Stop one agent, or all");
  stop->add_option("name", client.agent, "The agent; default: all of them");
}

void add_watching(CLI::App& app, Draft& draft) {
  StatusCommand& command = draft.arguments.status;
  CLI::App* status = add_command(app, draft, "status", "Models, pools, agents, memory");
  CLI::Option* json = status->add_flag("--json", command.json, "As JSON");
  status->add_flag("--watch", command.watch, "Go on showing it until Ctrl-C")->excludes(json);

  DoctorCommand& doctor = draft.arguments.doctor;
  CLI::App* look = add_command(app, draft, "doctor", "What this machine can do, and what is wrong");
  look->add_option("--model", doctor.model, "Look at this model file, too");
  look->add_option("--writer", draft.arguments.deployment.writer, "Path of polykv-writer");
  look->add_option("--agent-program", draft.arguments.deployment.agent_program,
                   "Path of polykv-agent");
  look->add_flag("--json", doctor.json, "As JSON");

  add_command(app, draft, "down", "End a runtime and everything in it");
}

}  // namespace

void add_client_commands(CLI::App& app, Draft& draft) {
  add_ask_and_chat(app, draft);
  add_pools(app, draft);
  add_agents(app, draft);
  add_watching(app, draft);
}

void add_sampling_options(CLI::App& app, AskOptions& o) {
  const CLI::Range tokens(int64_t{0}, int64_t{1'000'000});
  app.add_option("--max-tokens", o.max_tokens, "Longest answer")
      ->check(CLI::Range(int64_t{1}, int64_t{1'000'000}));
  app.add_option("--min-tokens", o.min_tokens, "Shortest answer")->check(tokens);
  app.add_flag("--ignore-eos", o.ignore_eos, "Always generate --max-tokens tokens");
  app.add_option("--temperature", o.temperature,
                 "0 = greedy; this and the next four: as the model says");
  app.add_option("--top-k", o.top_k, "0 = off")->check(tokens);
  app.add_option("--top-p", o.top_p, "1 = off");
  app.add_option("--min-p", o.min_p, "0 = off");
  app.add_option("--repetition-penalty", o.repetition_penalty, "1 = off");
  app.add_option("--seed", o.seed, "Seed of the sampler");
  app.add_option("--stop", o.stop, "Strings that end an answer");
}

void add_logprob_options(CLI::App& app, AskOptions& o) {
  app.add_flag("--logprobs", o.logprobs, "Say how likely each token was");
  app.add_option("--top-logprobs", o.top_logprobs, "And so many of the likeliest in its place")
      ->check(CLI::Range(int64_t{0}, int64_t{20}));
}

}  // namespace polykv
