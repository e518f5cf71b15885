// `polykv run`, top to bottom.
#include "launch/run_job.h"

#include <algorithm>
#include <chrono>
#include <iostream>
#include <map>

#include "launch/inputs.h"
#include "launch/progress.h"
#include "launch/report.h"

namespace polykv {
namespace {

using Clock = std::chrono::steady_clock;
constexpr const char* kPool = "main";

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Tokens of the longest question, as the model counts them.
Result<int64_t> longest_question(Client& client, const std::vector<std::string>& questions) {
  int64_t longest = 0;
  ProgressLine line;  // the first waits for the model
  for (const std::string& question : questions) {
    auto memory = share_bytes("polykv-text", std::as_bytes(std::span(question)), memory_room());
    if (!memory) return pass(memory);
    Message count("tokenize");
    count.set_id("job", 0).set("form", "question");
    auto answer = client.ask_with_memory(count, memory->get(), 1,
                                         [&](const Message& part) { line.show(part); });
    if (!answer) return pass(answer);
    longest = std::max(longest, answer->front().message.integer("count"));
  }
  return longest;
}

std::string streaming_line(size_t done, size_t all, int64_t pieces, double seconds) {
  return cat("agents streaming: ", done, " of ", all, " answers done, ", pieces,
             " pieces of text, ", static_cast<int64_t>(static_cast<double>(pieces) / seconds),
             " a second");
}

// Asks everything at once; free lanes take the questions in order.
Status ask_all(Client& client, const RunOptions& options, RunResult& result) {
  std::map<std::string, Answer*> open;
  const Clock::time_point start = Clock::now();
  for (Answer& answer : result.answers) {
    auto id = client.send(generate_message(kPool, answer.question, options.ask));
    if (!id) return pass(id);
    open[*id] = &answer;
  }
  ProgressLine line;
  int64_t pieces = 0;
  while (!open.empty()) {
    auto message = client.receive();
    if (!message) return pass(message);
    const auto found = open.find(message->text("id"));
    if (found == open.end()) continue;
    pieces += message->type() == "token" ? 1 : 0;
    line.show(streaming_line(result.answers.size() - open.size(), result.answers.size(), pieces,
                             seconds_since(start)));
    Answer& answer = *found->second;
    if (message->type() == "token") {
      append_logprobs(*message, answer.logprobs);
      continue;
    }
    answer.agent = message->text("agent");
    answer.pid = message->integer("pid");
    if (message->type() == "error") answer.error = error_of(*message);
    if (message->type() == "done") answer.done = std::move(*message);
    open.erase(found);
  }
  result.answer_seconds = seconds_since(start);
  return {};
}

Result<RunResult> run_steps(Client& client, const RunOptions& options, const std::string& context,
                            const std::vector<std::string>& questions) {
  RunResult result;
  result.n_agents = options.n_agents;
  result.n_lanes = options.supervisor.agent_lanes;
  result.codec = options.codec;
  auto longest = longest_question(client, questions);
  if (!longest) return pass(longest);
  auto pool = create_pool(client, kPool, options.codec, context, *longest + options.ask.max_tokens);
  if (!pool) return pass(pool);
  result.pool = std::move(*pool);
  if (auto started = start_agents(client, kPool, options.n_agents); !started) {
    return pass(started);
  }
  for (const std::string& question : questions) {
    result.answers.push_back(
        {.question = question, .done = {}, .error = {}, .agent = {}, .logprobs = {}});
  }
  if (auto asked = ask_all(client, options, result); !asked) return pass(asked);
  auto status = client.ask(Message("status"));
  if (!status) return pass(status);
  result.status = std::move(*status);
  return result;
}

// The first failure decides the exit code; a lost agent is one.
Status verdict(const RunResult& result) {
  for (const Answer& answer : result.answers) {
    if (!answer.done) return std::unexpected(answer.error);
  }
  return {};
}

}  // namespace

void append_logprobs(const Message& token, std::vector<Message>& all) {
  for (Message& one : token.objects("logprobs")) all.push_back(std::move(one));
}

Message generate_message(const std::string& pool, const AskOptions& options) {
  Message message("generate");
  message.set("pool", pool).set("max_tokens", options.max_tokens);
  message.set("min_tokens", options.min_tokens).set("ignore_eos", options.ignore_eos);
  const auto set = [&](const char* field, const auto& value) {
    if (value) message.set(field, *value);
  };
  set("temperature", options.temperature);
  set("top_k", options.top_k);
  set("top_p", options.top_p);
  set("min_p", options.min_p);
  set("repetition_penalty", options.repetition_penalty);
  if (options.logprobs) message.set("logprobs", true);
  if (options.top_logprobs > 0) message.set("top_logprobs", options.top_logprobs);
  message.set_id("seed", options.seed).set("stop", options.stop);
  return message;
}

Message generate_message(const std::string& pool, const std::string& prompt,
                         const AskOptions& options) {
  return generate_message(pool, options).set("prompt", prompt);
}

Result<Message> ask_with_text(Client& client, Message request, const std::string& text) {
  auto memory = share_bytes("polykv-text", std::as_bytes(std::span(text)), memory_room());
  if (!memory) return pass(memory);
  ProgressLine line;
  auto answer = client.ask_with_memory(std::move(request), memory->get(), 1,
                                       [&](const Message& part) { line.show(part); });
  if (!answer) return pass(answer);
  return std::move(answer->front().message);
}

Result<Message> create_pool(Client& client, const std::string& pool, const std::string& codec,
                            const std::string& text, int64_t reserve) {
  Message create("pool_create");
  create.set("pool", pool).set("codec", codec).set("reserve", reserve);
  return ask_with_text(client, std::move(create), text);
}

Result<Message> start_agents(Client& client, const Message& request) {
  ProgressLine line;
  return client.ask(request, [&](const Message& part) { line.show(part); });
}

Status start_agents(Client& client, const std::string& pool, int64_t count) {
  auto started =
      start_agents(client, Message("agents_start").set("pool", pool).set("count", count));
  return started ? Status() : Status(pass(started));
}

Status run_job(const RunOptions& options, int interrupt_fd) {
  if (options.n_agents < 1 || options.n_agents > kAgentsMax) {
    return fail(ErrorCode::bad_agent_count,
                cat(options.n_agents, " agents: from 1 to ", kAgentsMax, " can run in one runtime"),
                cat(options.n_agents), cat(kAgentsMax));
  }
  if (auto codec = parse_codec(options.codec); !codec) return pass(codec);
  auto context = read_context(options.context);
  if (!context) return pass(context);
  auto questions = read_questions(options.questions);
  if (!questions) return pass(questions);

  auto session = Session::start(options.supervisor, options.runtime, interrupt_fd);
  if (!session) return pass(session);
  auto result = run_steps((*session)->client(), options, *context, *questions);
  const Status stopped = (*session)->stop(result ? Status() : Status(pass(result)));
  if (!stopped) return stopped;
  print_report(*result, std::cout);
  if (!options.json.empty()) {
    if (auto written = write_file(options.json, report_json(*result) + "\n"); !written) {
      return written;
    }
  }
  return verdict(*result);
}

}  // namespace polykv
