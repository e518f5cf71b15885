// Generation over one layout.
#include "agents/generate.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "ipc/process.h"

namespace polykv {
namespace {

using Clock = std::chrono::steady_clock;

double ms_between(Clock::time_point start, Clock::time_point end) {
  return std::chrono::duration<double, std::milli>(end - start).count();
}

// The state of one answer while it grows.
class Answer {
 public:
  Answer(AgentModel& model, const Layout& layout, Suffix& suffix, const GenerateOptions& options)
      : model_(model),
        layout_(layout),
        suffix_(suffix),
        options_(options),
        tokens_(model, layout, suffix),
        sampler_(options.sampling),
        stream_(options.stop),
        logits_(model.image.config().n_vocab),
        start_(Clock::now()),
        first_(start_) {}

  // False: cancelled on the way.
  Result<bool> prompt(const OnText& on_text);
  GenerateResult grow(const OnText& on_text);
  GenerateResult cancelled();

 private:
  Status check_length(size_t n_prompt) const;
  void add_stop_tokens();
  void start_history(const std::vector<uint32_t>& prompt);
  uint32_t next_token();
  bool deliver(uint32_t token, const OnText& on_text);
  void sample_memory();
  void finish(const OnText& on_text);

  AgentModel& model_;
  const Layout& layout_;
  Suffix& suffix_;
  const GenerateOptions& options_;
  Stream tokens_;
  Sampler sampler_;
  TextStream stream_;
  std::vector<float> logits_;      // [n_vocab]
  std::vector<uint32_t> history_;  // pool tokens (if a penalty wants them), prompt, answer
  std::vector<uint32_t> stop_tokens_;
  Clock::time_point start_, first_;
  GenerateResult result_;
};

void Answer::add_stop_tokens() {
  for (const std::string& name : model_.text->chat.stop_tokens()) {
    if (auto token = model_.text->tokenizer.special_token(name)) stop_tokens_.push_back(*token);
  }
  const uint32_t eos = model_.image.tokenizer().eos;
  if (eos < model_.image.config().n_vocab) stop_tokens_.push_back(eos);
}

Status Answer::check_length(size_t n_prompt) const {
  const uint64_t all = uint64_t{layout_.n_tokens} + n_prompt + options_.max_tokens;
  const uint32_t limit = model_.image.config().n_positions;
  if (all <= limit) return {};
  return fail(ErrorCode::context_too_long,
              cat("context (", layout_.n_tokens, " tokens) + prompt (", n_prompt,
                  ") + max tokens (", options_.max_tokens, ") is ", all, ", beyond the model's ",
                  limit, " positions: ask for at most ",
                  limit - std::min<uint64_t>(limit, layout_.n_tokens + n_prompt),
                  " tokens, or shorten the context"),
              cat(all), cat(limit));
}

// What a repetition penalty looks at: pool, prompt, and the answer as it grows.
void Answer::start_history(const std::vector<uint32_t>& prompt) {
  if (options_.sampling.repetition_penalty != 1.0F) {
    for (const Span& span : layout_.spans) {
      const auto pool = span.segment.tokens();
      history_.insert(history_.end(), pool.begin() + span.token_begin,
                      pool.begin() + span.token_end);
    }
  }
  history_.reserve(history_.size() + prompt.size() + options_.max_tokens);
  history_.insert(history_.end(), prompt.begin(), prompt.end());
}

Result<bool> Answer::prompt(const OnText& on_text) {
  if (auto ok = check_sampling(options_.sampling); !ok) return pass(ok);
  auto tokens = model_.text->tokenizer.encode(model_.text->chat.conversation(options_.messages));
  if (!tokens) return pass(tokens);
  if (auto fits = check_length(tokens->size()); !fits) return pass(fits);
  add_stop_tokens();
  start_history(*tokens);
  result_.prompt_tokens = static_cast<uint32_t>(tokens->size());
  result_.tokens.reserve(options_.max_tokens);
  const uint32_t room = result_.prompt_tokens + options_.max_tokens;
  auto reused = tokens_.become(*tokens, room, logits_.data(), [&] { return on_text(""); });
  if (!reused && reused.error().code == ErrorCode::cancelled) return false;
  if (!reused) return pass(reused);
  result_.reused_tokens = *reused;
  return true;
}

GenerateResult Answer::cancelled() {
  result_.reason = "cancelled";
  sample_memory();
  return std::move(result_);
}

GenerateResult Answer::grow(const OnText& on_text) {
  result_.reason = "length";
  while (result_.tokens.size() < options_.max_tokens) {
    const uint32_t token = next_token();
    if (result_.tokens.empty()) first_ = Clock::now();
    if (std::ranges::count(stop_tokens_, token) > 0) {
      result_.reason = "eos";
      break;
    }
    if (!deliver(token, on_text)) break;
    if (result_.tokens.size() == options_.max_tokens) break;
    tokens_.step(token, logits_.data());
  }
  finish(on_text);
  return std::move(result_);
}

uint32_t Answer::next_token() {
  if (result_.tokens.size() < options_.min_tokens) {
    for (uint32_t token : stop_tokens_) {
      logits_[token] = -std::numeric_limits<float>::infinity();
    }
  }
  return sampler_.pick(logits_, history_);
}

// Keeps the token and hands its text on; false ends the answer.
bool Answer::deliver(uint32_t token, const OnText& on_text) {
  result_.tokens.push_back(token);
  history_.push_back(token);
  const std::string text = stream_.push(model_.text->tokenizer.bytes_of(token));
  result_.text += text;
  if (result_.tokens.size() % 16 == 1) sample_memory();
  if (!on_text(text)) {
    result_.reason = "cancelled";
    return false;
  }
  if (stream_.stopped()) result_.reason = "stop";
  return !stream_.stopped();
}

void Answer::sample_memory() {
  if (auto use = memory_use()) {
    result_.peak_private_bytes = std::max(result_.peak_private_bytes, use->private_bytes);
  }
}

void Answer::finish(const OnText& on_text) {
  if (result_.reason != "cancelled") {
    const std::string rest = stream_.finish();
    result_.text += rest;
    if (!rest.empty()) (void)on_text(rest);
  }
  const Clock::time_point end = Clock::now();
  result_.ttft_ms = ms_between(start_, first_);
  const double after_first = ms_between(first_, end);
  const size_t n = result_.tokens.size();
  result_.tokens_per_s =
      n > 1 && after_first > 0 ? static_cast<double>(n - 1) * 1e3 / after_first : 0;
  result_.suffix_bytes = suffix_.bytes();
  sample_memory();
}

}  // namespace

Result<GenerateResult> generate(AgentModel& model, const Layout& layout, Suffix& suffix,
                                const GenerateOptions& options, const OnText& on_text) {
  Answer answer(model, layout, suffix, options);
  auto ready = answer.prompt(on_text);
  if (!ready) return pass(ready);
  return *ready ? answer.grow(on_text) : answer.cancelled();
}

Result<UniqueFd> score(AgentModel& model, const Layout& layout, std::span<const uint32_t> tokens,
                       const std::function<void(uint32_t done)>& progress) {
  const ModelConfig& config = model.image.config();
  if (tokens.empty() || layout.n_tokens + tokens.size() > config.n_positions) {
    return fail(ErrorCode::context_too_long,
                cat("cannot score ", tokens.size(), " tokens after ", layout.n_tokens,
                    ": the model has ", config.n_positions, " positions"),
                cat(tokens.size()), cat(config.n_positions));
  }
  auto memory = SharedBuilder::create(
      "polykv-scores", tokens.size() * config.n_vocab * sizeof(float), memory_room());
  if (!memory) return pass(memory);
  auto* logits = reinterpret_cast<float*>(memory->data().data());
  Suffix suffix(config);
  if (auto room = suffix.reserve(0, static_cast<uint32_t>(tokens.size())); !room) {
    return pass(room);
  }
  Stream stream(model, layout, suffix);
  for (size_t at = 0; at < tokens.size(); at += Decoder::kRowsMax) {
    const auto n = static_cast<uint32_t>(std::min<size_t>(Decoder::kRowsMax, tokens.size() - at));
    stream.pass_over(tokens.subspan(at, n), n, logits + at * config.n_vocab);
    progress(static_cast<uint32_t>(at) + n);
  }
  return std::move(*memory).seal();
}

}  // namespace polykv
