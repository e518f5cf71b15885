// The token loop: prompt, step, sample, stop.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "agents/stream.h"
#include "model/sampler.h"
#include "model/text_stream.h"

namespace polykv {

struct GenerateOptions {
  std::vector<ChatTurn> messages;  // after the pool's text; the last one is to be answered
  uint32_t max_tokens = 256;
  uint32_t min_tokens = 0;  // end-of-answer tokens are not sampled before that many
  SamplingOptions sampling;
  std::vector<std::string> stop;
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
  uint64_t peak_private_bytes = 0;
};

// Called with each piece of text that is certain, and now and then with none; false cancels.
using OnText = std::function<bool(const std::string& text)>;

// context_too_long with the three numbers; bad_text; usage (sampling). Greedy output depends on
// nothing but the layout's bytes, the model, the options and the instruction set: not on what the
// suffix holds, which only spares work. It then holds prompt and answer, the last token excepted.
Result<GenerateResult> generate(AgentModel& model, const Layout& layout, Suffix& suffix,
                                const GenerateOptions& options, const OnText& on_text);

// Logits of every forced token, into new sealed memory [n_tokens, n_vocab] f32: for evaluation.
Result<UniqueFd> score(AgentModel& model, const Layout& layout, std::span<const uint32_t> tokens,
                       const std::function<void(uint32_t done)>& progress);

}  // namespace polykv
