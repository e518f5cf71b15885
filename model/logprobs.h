// How likely a model found its own tokens.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace polykv {

struct TokenLogprob {
  uint32_t token = 0;
  float logprob = 0;  // natural logarithm, at most 0
};

// Of the softmax over the whole vocabulary, as the model gave it: before penalty, temperature and
// whatever narrows the choice.
class Logprobs {
 public:
  static constexpr uint32_t kTopMax = 20;

  // Takes all the memory that it will ever need. REQUIRES: n_top <= kTopMax.
  Logprobs(uint32_t n_vocab, uint32_t n_top);
  // Copies them: whoever picks the token changes them. logits: [n_vocab].
  void keep(std::span<const float> logits);
  // Of the logits that are kept: the token's first, then those of the n_top likeliest, in that
  // order, the lowest id first of equals. A logit that is no number is left out.
  std::span<const TokenLogprob> of(uint32_t token);

 private:
  void find_top();
  double log_sum() const;

  std::vector<float> logits_;
  std::vector<TokenLogprob> found_;
  uint32_t n_top_;
};

}  // namespace polykv
