// One pass for the likeliest, one for the sum, in the order of the ids: the same bits everywhere.
#include "model/logprobs.h"

#include <algorithm>
#include <cmath>

#include "ipc/result.h"

namespace polykv {

Logprobs::Logprobs(uint32_t n_vocab, uint32_t n_top) : logits_(n_vocab), n_top_(n_top) {
  check(n_top <= kTopMax, "as many as a reply may list");
  found_.reserve(size_t{n_top} + 2);
}

void Logprobs::keep(std::span<const float> logits) { std::ranges::copy(logits, logits_.begin()); }

// Logits, not yet logarithms of shares; always one at least, for the sum.
void Logprobs::find_top() {
  const size_t wanted = std::max(n_top_, 1U);
  for (uint32_t i = 0; i < logits_.size(); ++i) {
    const float floor = found_.size() < wanted ? -INFINITY : found_.back().logprob;
    if (!(logits_[i] > floor)) continue;
    if (found_.size() == wanted) found_.pop_back();
    const auto place = std::ranges::find_if(
        found_, [&](const TokenLogprob& other) { return other.logprob < logits_[i]; });
    found_.insert(place, {i, logits_[i]});
  }
}

double Logprobs::log_sum() const {
  if (found_.empty()) return -INFINITY;
  const double top = found_.front().logprob;
  if (!std::isfinite(top)) return top;
  double sum = 0;
  for (const float logit : logits_) {
    if (logit > -INFINITY) sum += std::exp(static_cast<double>(logit) - top);
  }
  return top + std::log(sum);
}

std::span<const TokenLogprob> Logprobs::of(uint32_t token) {
  found_.clear();
  find_top();
  const double all = log_sum();
  if (n_top_ == 0) found_.clear();
  found_.insert(found_.begin(), {token, logits_[token]});
  for (TokenLogprob& one : found_) {
    const double share = static_cast<double>(one.logprob) - all;
    one.logprob = std::isnan(share) ? 0.0F : static_cast<float>(share);
  }
  return found_;
}

}  // namespace polykv
