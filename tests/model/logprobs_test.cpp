// Logprobs against a softmax written down anew.
#include "model/logprobs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

namespace polykv {
namespace {

constexpr uint32_t kVocab = 1000;

std::vector<float> random_logits(uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 4);
  std::vector<float> logits(kVocab);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

std::vector<double> softmax(const std::vector<float>& logits) {
  const double top = *std::ranges::max_element(logits);
  std::vector<double> shares;
  for (const float logit : logits) shares.push_back(std::exp(double{logit} - top));
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  for (double& share : shares) share /= sum;
  return shares;
}

TEST(Logprobs, are_those_of_the_softmax_over_all) {
  const auto logits = random_logits(1);
  const auto shares = softmax(logits);
  Logprobs logprobs(kVocab, 0);
  logprobs.keep(logits);
  double sum = 0;
  for (uint32_t token = 0; token < kVocab; ++token) {
    const auto found = logprobs.of(token);
    ASSERT_EQ(found.size(), 1U);
    EXPECT_EQ(found[0].token, token);
    EXPECT_NEAR(found[0].logprob, std::log(shares[token]), 1e-5);
    EXPECT_LE(found[0].logprob, 0);
    sum += std::exp(double{found[0].logprob});
  }
  EXPECT_NEAR(sum, 1, 1e-5);
}

TEST(Logprobs, list_the_likeliest_in_order) {
  const auto logits = random_logits(2);
  std::vector<uint32_t> order(kVocab);
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, [&](uint32_t a, uint32_t b) { return logits[a] > logits[b]; });
  Logprobs logprobs(kVocab, Logprobs::kTopMax);
  logprobs.keep(logits);
  const auto found = logprobs.of(order[500]);
  ASSERT_EQ(found.size(), 1U + Logprobs::kTopMax);
  EXPECT_EQ(found[0].token, order[500]);
  for (uint32_t i = 0; i < Logprobs::kTopMax; ++i) {
    EXPECT_EQ(found[i + 1].token, order[i]) << i;
    EXPECT_GE(found[i + 1].logprob, found[0].logprob);
  }
}

TEST(Logprobs, of_equals_the_lowest_id_comes_first) {
  const std::vector<float> logits{1, 2, 2, 1, 2};
  Logprobs logprobs(5, 4);
  logprobs.keep(logits);
  const auto found = logprobs.of(3);
  std::vector<uint32_t> tokens;
  for (const TokenLogprob& one : found) tokens.push_back(one.token);
  EXPECT_EQ(tokens, (std::vector<uint32_t>{3, 1, 2, 4, 0}));
}

TEST(Logprobs, leave_out_what_is_no_number_and_stay_numbers) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  Logprobs logprobs(4, 3);
  logprobs.keep(std::vector<float>{NAN, 0, -kInf, 0});
  const auto found = logprobs.of(1);
  ASSERT_EQ(found.size(), 3U) << "two of them are";
  EXPECT_NEAR(found[0].logprob, std::log(0.5), 1e-6);
  EXPECT_EQ(found[1].token, 1U);
  EXPECT_EQ(found[2].token, 3U);
  logprobs.keep(std::vector<float>{0, kInf, 0, 0});
  EXPECT_EQ(logprobs.of(1)[0].logprob, 0);
  EXPECT_EQ(logprobs.of(0)[0].logprob, -kInf);
}

}  // namespace
}  // namespace polykv
