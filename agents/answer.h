// One answer while it grows: prompt, tokens, text, stop. It says which tokens to compute next and
// is given the logits after them; who computes, and with what else, is not its concern.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "agents/agent_model.h"
#include "agents/suffix.h"
#include "ipc/pool.h"
#include "model/logprobs.h"
#include "model/sampler.h"
#include "model/text_stream.h"

namespace polykv {

struct GenerateOptions {
  std::vector<ChatTurn> messages;  // after the pool's text; the last one is to be answered
  uint32_t max_tokens = 256;
  uint32_t min_tokens = 0;  // end-of-answer tokens are not sampled before that many
  SamplingOptions sampling;
  std::vector<std::string> stop;
  std::optional<uint32_t> top_logprobs;  // wanted of each token, and of so many likeliest ones
};

struct GenerateResult {
  std::string reason;  // "eos", "stop", "length", "cancelled"
  std::string text;
  std::vector<uint32_t> tokens;
  uint32_t prompt_tokens = 0;
  uint32_t reused_tokens = 0;  // of the prompt, by what the suffix held already
  double ttft_ms = 0;          // from the request to the first token
  double tokens_per_s = 0;     // after the first token
  uint64_t suffix_bytes = 0;
  std::optional<uint64_t> private_bytes;  // of the process, at the end
  uint64_t peak_private_bytes = 0;
};

// The prompt's tokens. usage (sampling), bad_text.
Result<std::vector<uint32_t>> prompt_of(const AgentModel& model, const GenerateOptions& options);

class Answer {
 public:
  // Everything must outlive the answer. The suffix must be empty or of this very layout; what it
  // shares with the prompt is kept, room for the rest is made. context_too_long with the three
  // numbers; memory_limit. Greedy output depends on nothing but the layout's bytes, the model, the
  // options and the instruction set: not on what the suffix holds, nor on who else is computed for.
  static Result<Answer> begin(const AgentModel& model, const Layout& layout, Suffix& suffix,
                              GenerateOptions options, const std::vector<uint32_t>& prompt);

  bool ended() const { return !result_.reason.empty(); }
  bool in_prompt() const { return suffix_->n_tokens() < prompt_.size(); }
  // The tokens to compute next, at least one, at most `most`. REQUIRES: !ended().
  std::span<const uint32_t> next(uint32_t most) const;
  // Do the logits after the next n tokens decide a token?
  bool decides(size_t n) const { return suffix_->n_tokens() + n >= prompt_.size(); }
  // Once next()'s tokens are in the suffix and decide: picks a token. Returns the text that is
  // certain now. logits: [n_vocab], changed.
  std::string take(std::span<float> logits);
  // Of the token that the last take() added to the answer, and of the likeliest ones in its place;
  // empty if nobody wants them, or it added none.
  std::span<const TokenLogprob> logprobs() const { return logprobs_; }
  void cancel();
  const GenerateResult& result() const { return result_; }  // whole once ended

 private:
  using Clock = std::chrono::steady_clock;
  Answer(const AgentModel& model, Suffix& suffix, GenerateOptions options);
  void add_stop_tokens();
  void start_history(const Layout& layout);
  uint32_t pick(std::span<float> logits);
  std::string add(uint32_t token);
  void end_if_full();
  void finish();
  void sample_memory();

  const AgentModel* model_;
  Suffix* suffix_;
  GenerateOptions options_;
  Sampler sampler_;
  TextStream stream_;
  std::vector<uint32_t> prompt_;
  std::vector<uint32_t> history_;  // pool tokens (if a penalty wants them), prompt, answer
  std::vector<uint32_t> stop_tokens_;
  std::optional<Logprobs> likely_;          // where they are wanted
  std::span<const TokenLogprob> logprobs_;  // likely_'s
  bool has_text_ = false;                   // a token with text was taken
  Clock::time_point start_, first_;
  GenerateResult result_;
};

}  // namespace polykv
