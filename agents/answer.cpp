// The state of one answer.
#include "agents/answer.h"

#include <algorithm>
#include <limits>

#include "agents/stream.h"
#include "ipc/process.h"

namespace polykv {
namespace {

Status check_length(const AgentModel& model, const Layout& layout, size_t n_prompt,
                    uint32_t max_tokens) {
  const uint64_t all = uint64_t{layout.n_tokens} + n_prompt + max_tokens;
  const uint32_t limit = model.image.config().n_positions;
  if (all <= limit) return {};
  return fail(
      ErrorCode::context_too_long,
      cat("context (", layout.n_tokens, " tokens) + prompt (", n_prompt, ") + max tokens (",
          max_tokens, ") is ", all, ", beyond the model's ", limit, " positions: ask for at most ",
          limit - std::min<uint64_t>(limit, layout.n_tokens + n_prompt),
          " tokens, or shorten the context"),
      cat(all), cat(limit));
}

}  // namespace

Result<std::vector<uint32_t>> prompt_of(const AgentModel& model, const GenerateOptions& options) {
  if (auto ok = check_sampling(options.sampling); !ok) return pass(ok);
  return model.text->tokenizer.encode(model.text->chat.conversation(options.messages));
}

Answer::Answer(const AgentModel& model, Suffix& suffix, GenerateOptions options)
    : model_(&model),
      suffix_(&suffix),
      options_(std::move(options)),
      sampler_(options_.sampling),
      stream_(options_.stop),
      start_(Clock::now()),
      first_(start_) {}

Result<Answer> Answer::begin(const AgentModel& model, const Layout& layout, Suffix& suffix,
                             GenerateOptions options, const std::vector<uint32_t>& prompt) {
  if (auto fits = check_length(model, layout, prompt.size(), options.max_tokens); !fits) {
    return pass(fits);
  }
  Answer answer(model, suffix, std::move(options));
  answer.prompt_ = prompt;
  answer.result_.prompt_tokens = static_cast<uint32_t>(prompt.size());
  answer.result_.reused_tokens = reusable(suffix, prompt, true);
  const uint32_t room = answer.result_.prompt_tokens + answer.options_.max_tokens;
  if (auto ready = suffix.reserve(answer.result_.reused_tokens, room); !ready) return pass(ready);
  answer.add_stop_tokens();
  answer.start_history(layout);
  answer.result_.tokens.reserve(answer.options_.max_tokens);
  if (const auto top = answer.options_.top_logprobs) {
    answer.likely_.emplace(model.image.config().n_vocab, *top);
  }
  return answer;
}

void Answer::add_stop_tokens() {
  for (const std::string& name : model_->text->chat.stop_tokens()) {
    if (auto token = model_->text->tokenizer.special_token(name)) stop_tokens_.push_back(*token);
  }
  const uint32_t eos = model_->image.tokenizer().eos;
  if (eos < model_->image.config().n_vocab) stop_tokens_.push_back(eos);
  const auto ends = model_->image.tokenizer().ends;
  stop_tokens_.insert(stop_tokens_.end(), ends.begin(), ends.end());
}

// What a repetition penalty looks at: pool, prompt, and the answer as it grows.
void Answer::start_history(const Layout& layout) {
  if (options_.sampling.repetition_penalty != 1.0F) {
    for (const Span& span : layout.spans) {
      const auto pool = span.segment.tokens();
      history_.insert(history_.end(), pool.begin() + span.token_begin,
                      pool.begin() + span.token_end);
    }
  }
  history_.reserve(history_.size() + prompt_.size() + options_.max_tokens);
  history_.insert(history_.end(), prompt_.begin(), prompt_.end());
}

std::span<const uint32_t> Answer::next(uint32_t most) const {
  if (!in_prompt()) return {&result_.tokens.back(), 1};
  const auto left = std::span(prompt_).subspan(suffix_->n_tokens());
  return left.first(std::min<size_t>(most, left.size()));
}

uint32_t Answer::pick(std::span<float> logits) {
  if (result_.tokens.size() < options_.min_tokens) {
    for (const uint32_t token : stop_tokens_) {
      logits[token] = -std::numeric_limits<float>::infinity();
    }
  }
  return sampler_.pick(logits, history_);
}

// The space before an answer's first word is one that the tokenizer writes before every text.
std::string Answer::add(uint32_t token) {
  const Tokenizer& tokenizer = model_->text->tokenizer;
  result_.tokens.push_back(token);
  history_.push_back(token);
  if (likely_) logprobs_ = likely_->of(token);
  const auto bytes = tokenizer.bytes_of(token);
  std::string text = stream_.push(has_text_ ? bytes : tokenizer.first_bytes_of(token));
  has_text_ = has_text_ || !bytes.empty();
  if (stream_.stopped()) result_.reason = "stop";
  end_if_full();
  return text;
}

std::string Answer::take(std::span<float> logits) {
  logprobs_ = {};
  if (likely_) likely_->keep(logits);
  const uint32_t token = pick(logits);
  if (result_.tokens.empty()) {
    first_ = Clock::now();
    sample_memory();
  }
  std::string text;
  if (std::ranges::count(stop_tokens_, token) > 0) {
    result_.reason = "eos";
  } else {
    text = add(token);
  }
  if (ended()) text += stream_.finish();
  result_.text += text;
  if (ended()) finish();
  return text;
}

void Answer::end_if_full() {
  if (!ended() && result_.tokens.size() == options_.max_tokens) result_.reason = "length";
}

void Answer::cancel() {
  result_.reason = "cancelled";
  finish();
}

void Answer::sample_memory() {
  const auto use = memory_use();
  result_.private_bytes.reset();
  if (!use) return;
  result_.private_bytes = use->private_bytes;
  result_.peak_private_bytes = std::max(result_.peak_private_bytes, use->private_bytes);
}

void Answer::finish() {
  using Milliseconds = std::chrono::duration<double, std::milli>;
  const Milliseconds before(first_ - start_), after(Clock::now() - first_);
  result_.ttft_ms = before.count();
  const size_t n = result_.tokens.size();
  if (n > 1 && after.count() > 0) {
    result_.tokens_per_s = static_cast<double>(n - 1) * 1e3 / after.count();
  }
  result_.suffix_bytes = suffix_->bytes();
  sample_memory();
}

}  // namespace polykv
