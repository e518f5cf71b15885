// The report of a run.
#include "launch/report.h"

#include <algorithm>
#include <iomanip>
#include <ostream>

#include "launch/text_table.h"

namespace polykv {
namespace {

// A run has one model.
Message model_of(const RunResult& result) { return result.status.objects("models").front(); }

double prefill_rate(const RunResult& result) {
  const double seconds = result.pool.number("prefill_seconds");
  return seconds > 0 ? static_cast<double>(result.pool.integer("prefill_tokens")) / seconds : 0;
}

int64_t tokens_generated(const RunResult& result) {
  int64_t tokens = 0;
  for (const Answer& answer : result.answers) {
    if (answer.done) tokens += answer.done->integer("tokens");
  }
  return tokens;
}

// ", fast: products tiles, attention tiles"
std::string precision(const RunResult& result) {
  const std::string said = result.pool.text("precision");
  return said.empty() ? "" : ", " + said;
}

int64_t n_streams(const RunResult& result) { return result.n_agents * result.n_lanes; }

// Of each process: as many as it was started with.
int64_t n_threads(const RunResult& result) {
  const auto agents = result.status.objects("agents");
  return agents.empty() ? 0 : agents.front().integer("threads");
}

std::string processes(const RunResult& result) {
  if (result.n_lanes == 1) return cat(result.n_agents, " processes");
  return cat(result.n_agents, result.n_agents == 1 ? " process" : " processes", " x ",
             result.n_lanes, " lanes");
}

void print_memory(const RunResult& result, std::ostream& out) {
  const auto bytes = static_cast<uint64_t>(result.pool.integer("bytes"));
  const uint64_t f16 = f16_cache_bytes(result.pool);
  const auto times = [&](uint64_t other) {
    return fixed(static_cast<double>(other) / static_cast<double>(bytes), 1);
  };
  const uint64_t many = f16 * static_cast<uint64_t>(n_streams(result));
  out << "Pool      " << megabytes(bytes) << " as mapped, for " << result.pool.integer("tokens")
      << " tokens in " << result.codec << ": " << fixed(result.pool.number("bits_per_element"), 3)
      << " bits per element, everything counted\n"
      << "          instead of " << megabytes(many) << " in " << n_streams(result)
      << " private f16 caches (" << times(many) << " times as much)\n"
      << "          or " << megabytes(f16) << " in one shared f16 cache (" << times(f16)
      << " times as much)\n"
      << "Model     " << model_of(result).text("name") << ": "
      << megabytes(static_cast<uint64_t>(model_of(result).integer("image_bytes")))
      << ", mapped once for all\n";
}

void print_speed(const RunResult& result, std::ostream& out) {
  out << "Prefill   " << result.pool.integer("prefill_tokens") << " tokens, once, in "
      << fixed(result.pool.number("prefill_seconds"), 1) << " s: " << fixed(prefill_rate(result), 0)
      << " tokens/s" << precision(result) << '\n'
      << "Answers   " << tokens_generated(result) << " tokens in "
      << fixed(result.answer_seconds, 1)
      << " s: " << fixed(static_cast<double>(tokens_generated(result)) / result.answer_seconds, 1)
      << " tokens/s from " << processes(result) << ", prompts included\n";
}

void print_agents(const RunResult& result, std::ostream& out) {
  out << "\nagent       pid  attach ms  first token ms  tokens/s  private MB  tokens  end\n";
  for (const Answer& answer : result.answers) {
    out << std::left << std::setw(6) << (answer.agent.empty() ? "-" : answer.agent) << std::right
        << std::setw(9) << answer.pid;
    if (!answer.done) {
      out << "  DIED: " << answer.error.message << '\n';
      continue;
    }
    const Message& done = *answer.done;
    out << std::setw(11) << fixed(done.number("attach_ms"), 0) << std::setw(16)
        << fixed(done.number("ttft_ms"), 0) << std::setw(10)
        << fixed(done.number("tokens_per_s"), 1) << std::setw(12)
        << fixed(static_cast<double>(done.integer("peak_private_bytes")) / 1e6, 1) << std::setw(8)
        << done.integer("tokens") << "  " << done.text("reason") << '\n';
  }
}

std::string indented(const std::string& text) {
  std::string out = "   ";
  for (const char c : text) {
    out += c;
    if (c == '\n') out += "   ";
  }
  return out;
}

void print_answers(const RunResult& result, std::ostream& out) {
  for (const Answer& answer : result.answers) {
    out << '\n' << (answer.agent.empty() ? "-" : answer.agent) << "  " << answer.question << '\n';
    out << indented(answer.done ? answer.done->text("text") : "(" + answer.error.message + ")")
        << '\n';
  }
}

Message agent_report(const Answer& answer) {
  Message report("agent_report");
  report.set("agent", answer.agent).set("pid", answer.pid).set("question", answer.question);
  if (!answer.done) {
    report.set("error", answer.error.message).set("code", error_name(answer.error.code));
    return report;
  }
  const Message& done = *answer.done;
  for (const char* field : {"attach_ms", "ttft_ms", "tokens_per_s"}) {
    report.set(field, done.number(field));
  }
  for (const char* field : {"private_bytes", "peak_private_bytes", "suffix_bytes", "prompt_tokens",
                            "tokens", "version"}) {
    report.set(field, done.integer(field));
  }
  report.set("token_ids", done.integers("token_ids"));
  if (!answer.logprobs.empty()) report.set("logprobs", answer.logprobs);
  return report.set("reason", done.text("reason")).set("text", done.text("text"));
}

}  // namespace

void print_logprobs(const std::vector<Message>& logprobs, std::ostream& out) {
  const auto one = [&](const Message& token) {
    out << std::setw(9) << fixed(token.number("logprob"), 4) << "  \""
        << printable(token.text("text")) << '"';
  };
  for (const Message& token : logprobs) {
    one(token);
    for (const Message& other : token.objects("top")) one(other);
    out << '\n';
  }
}

uint64_t f16_cache_bytes(const Message& pool_ready) {
  return 2 * static_cast<uint64_t>(pool_ready.integer("elements"));
}

void print_report(const RunResult& result, std::ostream& out) {
  print_answers(result, out);
  print_agents(result, out);
  out << '\n';
  print_memory(result, out);
  print_speed(result, out);
  const int64_t restarts = model_of(result).integer("writer_restarts");
  if (restarts > 0) {
    out << "Writer    died and was started again " << restarts
        << " time(s); nothing was prefilled again\n";
  }
  for (const std::string& fallback : result.status.texts("fallbacks")) {
    out << "Fallback  " << fallback << '\n';
  }
}

std::string report_json(const RunResult& result) {
  const uint64_t f16 = f16_cache_bytes(result.pool);
  Message pool("pool_report");
  pool.set("codec", result.codec).set("bits_per_element", result.pool.number("bits_per_element"));
  for (const char* field : {"tokens", "bytes", "segments", "version"}) {
    pool.set(field, result.pool.integer(field));
  }
  pool.set("shared_f16_bytes", f16);
  pool.set("private_f16_bytes", f16 * static_cast<uint64_t>(n_streams(result)));
  std::vector<Message> agents;
  for (const Answer& answer : result.answers) agents.push_back(agent_report(answer));
  Message report("report");
  report.set("pool", pool).set("agents", agents);
  report.set("prefill_tokens", result.pool.integer("prefill_tokens"));
  report.set("prefill_seconds", result.pool.number("prefill_seconds"));
  report.set("prefill_tokens_per_s", prefill_rate(result));
  report.set("precision", result.pool.text("precision"));
  report.set("answer_seconds", result.answer_seconds);
  report.set("tokens_generated", tokens_generated(result));
  report.set("model", model_of(result).text("name"));
  report.set("fingerprint", model_of(result).text("fingerprint"));
  report.set("image_bytes", model_of(result).integer("image_bytes"));
  report.set("writer_restarts", model_of(result).integer("writer_restarts"));
  report.set("processes", result.n_agents).set("lanes", result.n_lanes);
  report.set("threads", n_threads(result));
  report.set("fallbacks", result.status.texts("fallbacks"));
  return report.dump();
}

}  // namespace polykv
