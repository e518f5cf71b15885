// KLD, NLL and their statistics against numbers worked out by hand.
#include "launch/eval_metrics.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

namespace polykv {
namespace {

constexpr double kNear = 1e-6;  // logits are floats

// Logits of known probabilities, moved by a constant: a softmax does not see it.
template <size_t n>
std::array<float, n> logits_of(const std::array<double, n>& probabilities, double shift = 0) {
  std::array<float, n> logits;
  for (size_t i = 0; i < n; ++i) logits[i] = static_cast<float>(std::log(probabilities[i]) + shift);
  return logits;
}

TEST(EvalMetrics, identical_predictions_have_no_divergence_even_at_large_logits) {
  const std::array<float, 6> logits{900, 2, -800, 0.5f, 0.25f, 0.125f};
  const std::array<uint32_t, 2> tokens{0, 1};
  EvalSamples samples;
  add_samples(logits, logits, tokens, 3, samples);
  EXPECT_EQ(samples.kld, (std::vector<double>{0, 0}));
  EXPECT_EQ(samples.top1_same, 2u);
  EXPECT_EQ(samples.nll_base, samples.nll_codec);
}

TEST(EvalMetrics, three_words_by_hand) {
  // KL(p || q) = 1/2 ln(1/2 / 1/4) + 1/4 ln(1/4 / 1/2) + 1/4 ln(1) = 1/4 ln 2.
  const auto p = logits_of<3>({0.5, 0.25, 0.25}, 3);
  const auto q = logits_of<3>({0.25, 0.5, 0.25}, -7);
  EvalSamples samples;
  add_samples(p, q, std::array<uint32_t, 1>{2}, 3, samples);
  ASSERT_EQ(samples.kld.size(), 1u);
  EXPECT_NEAR(samples.kld[0], 0.25 * std::log(2.0), kNear);
  EXPECT_EQ(samples.top1_same, 0u);
  EXPECT_TRUE(samples.nll_base.empty()) << "the last token's next one is not known";
}

TEST(EvalMetrics, divergence_is_measured_from_the_baseline) {
  const auto p = logits_of<3>({0.8, 0.1, 0.1});
  const auto q = logits_of<3>({0.4, 0.4, 0.2});
  EvalSamples forward, backward;
  add_samples(p, q, std::array<uint32_t, 1>{0}, 3, forward);
  add_samples(q, p, std::array<uint32_t, 1>{0}, 3, backward);
  EXPECT_NEAR(forward.kld[0], 0.8 * std::log(2.0) + 0.1 * std::log(0.25) + 0.1 * std::log(0.5),
              kNear);
  EXPECT_NEAR(backward.kld[0], 0.4 * std::log(0.5) + 0.4 * std::log(4.0) + 0.2 * std::log(2.0),
              kNear);
}

TEST(EvalMetrics, likelihood_is_of_the_token_that_comes_next) {
  const auto first = logits_of<3>({0.5, 0.3, 0.2}), second = logits_of<3>({0.1, 0.1, 0.8});
  const auto other = logits_of<3>({0.2, 0.6, 0.2});
  std::vector<float> base(first.begin(), first.end()), codec(other.begin(), other.end());
  base.insert(base.end(), second.begin(), second.end());
  codec.insert(codec.end(), second.begin(), second.end());
  EvalSamples samples;
  add_samples(base, codec, std::array<uint32_t, 2>{2, 1}, 3, samples);
  ASSERT_EQ(samples.nll_base.size(), 1u);
  EXPECT_NEAR(samples.nll_base[0], -std::log(0.3), kNear);
  EXPECT_NEAR(samples.nll_codec[0], -std::log(0.6), kNear);
  EXPECT_EQ(samples.top1_same, 1u) << "the second row only";
}

TEST(EvalMetrics, samples_of_several_windows_add_up) {
  const auto p = logits_of<3>({0.5, 0.25, 0.25});
  EvalSamples samples;
  for (int window = 0; window < 3; ++window) {
    add_samples(p, p, std::array<uint32_t, 1>{0}, 3, samples);
  }
  EXPECT_EQ(samples.kld.size(), 3u);
  EXPECT_EQ(samples.top1_same, 3u);
}

TEST(EvalMetrics, statistics_of_known_numbers) {
  const std::vector<double> values{9, 1, 4, 2, 4};
  EXPECT_DOUBLE_EQ(mean(values), 4);
  EXPECT_DOUBLE_EQ(median(values), 4);
  EXPECT_DOUBLE_EQ(median({1, 9, 3, 4}), 3.5);
  // Squares of the differences: 25 + 9 + 0 + 4 + 0 = 38; / 4, / 5.
  EXPECT_DOUBLE_EQ(standard_error(values), std::sqrt(38.0 / 4 / 5));
  EXPECT_DOUBLE_EQ(standard_error(std::vector<double>{3, 3, 3}), 0);
}

TEST(EvalMetrics, quantile_is_the_nearest_rank) {
  std::vector<double> values;
  for (int i = 100; i >= 0; --i) values.push_back(i);
  EXPECT_DOUBLE_EQ(quantile(values, 0), 0);
  EXPECT_DOUBLE_EQ(quantile(values, 0.5), 50);
  EXPECT_DOUBLE_EQ(quantile(values, 0.99), 99);
  EXPECT_DOUBLE_EQ(quantile(values, 1), 100);
  EXPECT_DOUBLE_EQ(quantile({5}, 0.99), 5);
}

}  // namespace
}  // namespace polykv
