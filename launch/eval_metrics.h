// Comparing two models' predictions, token by token.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace polykv {

// Collected over the tokens of all windows.
struct EvalSamples {
  std::vector<double> kld;       // KL(baseline || codec) per predicted token
  std::vector<double> nll_base;  // per next token
  std::vector<double> nll_codec;
  uint64_t top1_same = 0;  // of kld.size()
};

// base, codec: logits [n_tokens, n_vocab] after each forced token. tokens: [n_tokens] the forced
// ones.
void add_samples(std::span<const float> base, std::span<const float> codec,
                 std::span<const uint32_t> tokens, uint32_t n_vocab, EvalSamples& samples);

double mean(std::span<const double> values);
double median(std::vector<double> values);                     // middle, or mean of the two
double quantile(std::vector<double> values, double fraction);  // nearest rank
double standard_error(std::span<const double> values);         // of the mean

}  // namespace polykv
