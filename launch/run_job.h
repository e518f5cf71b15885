// The main job: one writer, N agents, Q questions over one document, one report.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launch/session.h"

namespace polykv {

// How answers are sampled; fields of "generate". What is not said is up to the model.
struct AskOptions {
  int64_t max_tokens = 48;
  int64_t min_tokens = 0;
  bool ignore_eos = false;
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int64_t> top_k;
  uint64_t seed = 0;
  std::vector<std::string> stop;
  bool logprobs = false;
  int64_t top_logprobs = 0;
};
// Without what is asked, and with it.
Message generate_message(const std::string& pool, const AskOptions& options);
Message generate_message(const std::string& pool, const std::string& prompt,
                         const AskOptions& options);

// Takes what a token message says of its tokens.
void append_logprobs(const Message& token, std::vector<Message>& all);

struct RunOptions {
  SupervisorOptions supervisor;
  std::string runtime;               // "" = private
  std::vector<std::string> context;  // paths
  std::string questions;             // path
  int64_t n_agents = 15;
  std::string codec = "k4v4";
  AskOptions ask;
  std::string json;  // path, "" = none
};

// What became of one question.
struct Answer {
  std::string question;
  std::optional<Message> done;  // or
  Error error;                  // with the agent's name and pid in `agent`, `pid`
  std::string agent;
  int64_t pid = 0;
  std::vector<Message> logprobs;  // of each token, where they are wanted
};

struct RunResult {
  Message pool{"pool_ready"};
  Message status{"status"};
  std::vector<Answer> answers;
  double answer_seconds = 0;  // from the first request to the last answer
  int64_t n_agents = 0;
  int64_t n_lanes = 1;  // of each
  std::string codec;
  std::string weak_model_note;
};

// A request whose text goes along as memory; shows its progress.
Result<Message> ask_with_text(Client& client, Message request, const std::string& text);
// Context in, pool published. `reserve`: positions to leave for prompt and answer.
Result<Message> create_pool(Client& client, const std::string& pool, const std::string& codec,
                            const std::string& text, int64_t reserve);
Status start_agents(Client& client, const std::string& pool, int64_t count);
Result<Message> start_agents(Client& client, const Message& request);  // its names; shows progress

// agent_lost if an agent died; the report names it and the others' answers are there.
Status run_job(const RunOptions& options, int interrupt_fd);

}  // namespace polykv
