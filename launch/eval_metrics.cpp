// KLD, NLL, top-1 in double precision.
#include "launch/eval_metrics.h"

#include <algorithm>
#include <cmath>

namespace polykv {
namespace {

// log sum exp of one row.
double log_normaliser(std::span<const float> logits) {
  const double top = *std::ranges::max_element(logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - top);
  return top + std::log(sum);
}

double divergence(std::span<const float> base, double base_norm, std::span<const float> codec,
                  double codec_norm) {
  double kld = 0;
  for (size_t i = 0; i < base.size(); ++i) {
    const double log_p = base[i] - base_norm;
    const double log_q = codec[i] - codec_norm;
    kld += std::exp(log_p) * (log_p - log_q);
  }
  return kld;
}

}  // namespace

void add_samples(std::span<const float> base, std::span<const float> codec,
                 std::span<const uint32_t> tokens, uint32_t n_vocab, EvalSamples& samples) {
  for (size_t t = 0; t < tokens.size(); ++t) {
    const auto p = base.subspan(t * n_vocab, n_vocab);
    const auto q = codec.subspan(t * n_vocab, n_vocab);
    const double p_norm = log_normaliser(p);
    const double q_norm = log_normaliser(q);
    samples.kld.push_back(divergence(p, p_norm, q, q_norm));
    const auto best_p = std::ranges::max_element(p) - p.begin();
    const auto best_q = std::ranges::max_element(q) - q.begin();
    samples.top1_same += best_p == best_q ? 1 : 0;
    if (t + 1 == tokens.size()) continue;
    samples.nll_base.push_back(p_norm - p[tokens[t + 1]]);
    samples.nll_codec.push_back(q_norm - q[tokens[t + 1]]);
  }
}

double mean(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double quantile(std::vector<double> values, double fraction) {
  const auto rank =
      static_cast<size_t>(std::lround(fraction * static_cast<double>(values.size() - 1)));
  std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(rank));
  return values[rank];
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

double standard_error(std::span<const double> values) {
  const double middle = mean(values);
  double squares = 0;
  for (const double value : values) squares += (value - middle) * (value - middle);
  const auto n = static_cast<double>(values.size());
  return std::sqrt(squares / (n - 1) / n);
}

}  // namespace polykv
