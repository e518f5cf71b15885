// Logits -> token. Pure: the same parameters, history and logits give the same token everywhere.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ipc/result.h"

namespace polykv {

// Applied in this order: repetition penalty, temperature, top-k, top-p, min-p.
struct SamplingOptions {
  float temperature = 0;         // 0 = greedy (lowest id wins a tie)
  uint32_t top_k = 0;            // 0 = off
  float top_p = 1;               // 1 = off
  float min_p = 0;               // 0 = off; relative to the likeliest token
  float repetition_penalty = 1;  // 1 = off; over the history's tokens
  uint64_t seed = 0;
};
// usage error with the field's name, value and range.
Status check_sampling(const SamplingOptions& options);
// "greedy", or what is on: "temperature 0.6, top_k 20, top_p 0.95".
std::string sampling_text(const SamplingOptions& options);

class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options);
  // logits: [n_vocab], changed in place. history: tokens of the prompt and the answer so far.
  uint32_t pick(std::span<float> logits, std::span<const uint32_t> history);

 private:
  double uniform();  // [0, 1), from the seed
  SamplingOptions options_;
  uint64_t state_;
  std::vector<uint32_t> order_;  // reused
};

}  // namespace polykv
