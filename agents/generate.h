// The token loop: prompt, step, sample, stop.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "agents/pool_attention.h"
#include "model/model.h"
#include "model/sampler.h"
#include "model/text_stream.h"

namespace polykv {

// What generation needs of a model; shared memory and fixed buffers, made once per process.
struct AgentModel {
  std::unique_ptr<Model> text;
  const ModelImage& image;
  Kernels kernels;
  AttendKernel attend;
  ThreadTeam team;
  Decoder decoder;

  AgentModel(std::unique_ptr<Model> loaded, const Kernels& chosen,
             const AttendKernel& chosen_attend, unsigned n_threads);
};
// `isa` forces kernels by name; "" = the best.
Result<std::unique_ptr<AgentModel>> load_agent_model(UniqueFd image, unsigned n_threads,
                                                     const std::string& isa);

struct GenerateOptions {
  std::string prompt;  // the question, as the user's next message
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
  double ttft_ms = 0;       // from the request to the first token
  double tokens_per_s = 0;  // after the first token
  uint64_t suffix_bytes = 0;
  uint64_t peak_private_bytes = 0;
};

// Called with each piece of text that is certain; false cancels.
using OnText = std::function<bool(const std::string& text)>;

// context_too_long with the three numbers; bad_text; usage (sampling). Greedy output depends on
// nothing but the layout's bytes, the model, the options and the instruction set.
Result<GenerateResult> generate(AgentModel& model, const Layout& layout,
                                const GenerateOptions& options, const OnText& on_text);

// Logits of every forced token, into new sealed memory [n_tokens, n_vocab] f32: for evaluation.
Result<UniqueFd> score(AgentModel& model, const Layout& layout, std::span<const uint32_t> tokens,
                       const std::function<void(uint32_t done)>& progress);

}  // namespace polykv
