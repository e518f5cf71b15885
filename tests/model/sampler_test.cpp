// Choosing tokens: ties, filters and known distributions.
#include "model/sampler.h"

#include <gtest/gtest.h>

#include <cmath>

namespace polykv {
namespace {

// Logits of given probabilities.
std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> out;
  out.reserve(probabilities.size());
  for (const double p : probabilities) out.push_back(static_cast<float>(std::log(p)));
  return out;
}

// Share of each token in many draws.
std::vector<double> shares(const SamplingOptions& options, const std::vector<float>& logits,
                           const std::vector<uint32_t>& history = {}, int n = 16384) {
  Sampler sampler(options);
  std::vector<double> out(logits.size());
  for (int i = 0; i < n; ++i) {
    std::vector<float> copy = logits;
    out[sampler.pick(copy, history)] += 1.0 / n;
  }
  return out;
}

void expect_shares(const std::vector<double>& found, const std::vector<double>& wanted) {
  ASSERT_EQ(found.size(), wanted.size());
  // Five standard deviations of the 16,384 draws; the seed is fixed. Powers of two sum up exactly.
  for (size_t i = 0; i < wanted.size(); ++i) {
    EXPECT_NEAR(found[i], wanted[i], 5 * std::sqrt(wanted[i] * (1 - wanted[i]) / 16384)) << i;
  }
}

TEST(Sampler, GreedyTakesTheLargestAndTheLowestIdOfATie) {
  Sampler sampler({});
  std::vector<float> logits = {1, 3, 2, 3};
  EXPECT_EQ(sampler.pick(logits, {}), 1U);
  std::vector<float> equal(5, 0.5F);
  EXPECT_EQ(sampler.pick(equal, {}), 0U);
}

TEST(Sampler, NotANumberNeverWins) {
  std::vector<float> logits = {NAN, -INFINITY, 2, NAN, 1};
  EXPECT_EQ(Sampler({}).pick(logits, {}), 2U);
  const auto found = shares({.temperature = 1}, logits);
  EXPECT_EQ(found[0] + found[1] + found[3], 0);
  std::vector<float> nothing(3, NAN);
  EXPECT_EQ(Sampler({.temperature = 1}).pick(nothing, {}), 0U);
  std::vector<float> infinite = {0, INFINITY, 1};
  EXPECT_EQ(Sampler({.temperature = 1}).pick(infinite, {}), 1U);
}

TEST(Sampler, TemperatureOneFollowsTheProbabilities) {
  expect_shares(shares({.temperature = 1}, logits_of({0.1, 0.6, 0.3})), {0.1, 0.6, 0.3});
}

TEST(Sampler, TemperatureSharpensAndFlattens) {
  // p^(1/T): T = 0.5 squares, T = 2 takes roots.
  expect_shares(shares({.temperature = 0.5F}, logits_of({0.2, 0.8})), {0.04 / 0.68, 0.64 / 0.68});
  const double a = std::sqrt(0.2), b = std::sqrt(0.8);
  expect_shares(shares({.temperature = 2}, logits_of({0.2, 0.8})), {a / (a + b), b / (a + b)});
}

TEST(Sampler, TinyTemperatureIsGreedy) {
  expect_shares(shares({.temperature = 1e-30F}, {1, 1.001F, 0}), {0, 1, 0});
}

TEST(Sampler, TopKKeepsTheLikeliestAndTheLowestIdsOfATie) {
  expect_shares(shares({.temperature = 1, .top_k = 2}, logits_of({0.1, 0.3, 0.6})),
                {0, 1.0 / 3, 2.0 / 3});
  expect_shares(shares({.temperature = 1, .top_k = 2}, {1, 1, 1}), {0.5, 0.5, 0});
  expect_shares(shares({.temperature = 1, .top_k = 99}, logits_of({0.5, 0.5})), {0.5, 0.5});
}

TEST(Sampler, TopPKeepsTheFewestThatReachTheShare) {
  const auto logits = logits_of({0.1, 0.5, 0.15, 0.25});
  expect_shares(shares({.temperature = 1, .top_p = 0.7F}, logits), {0, 2.0 / 3, 0, 1.0 / 3});
  expect_shares(shares({.temperature = 1, .top_p = 0.1F}, logits), {0, 1, 0, 0});
}

TEST(Sampler, TopPWorksPastTheFirstSortedTokens) {
  // 1000 equal tokens: half the share is the 500 lowest ids, give or take a rounding.
  const auto found = shares({.temperature = 1, .top_p = 0.5F}, std::vector<float>(1000, 0));
  double low = 0;
  for (size_t i = 0; i < 501; ++i) low += found[i];
  EXPECT_NEAR(low, 1, 1e-9);
  EXPECT_GT(found[450] + found[451] + found[452] + found[453], 0);
}

TEST(Sampler, TopPIsOfWhatTopKLeft) {
  // Of {0.4, 0.3} the first has 0.571 of the share.
  const auto logits = logits_of({0.4, 0.3, 0.3});
  expect_shares(shares({.temperature = 1, .top_k = 2, .top_p = 0.55F}, logits), {1, 0, 0});
}

TEST(Sampler, MinPIsRelativeToTheLikeliest) {
  const auto logits = logits_of({0.05, 0.5, 0.2, 0.25});
  expect_shares(shares({.temperature = 1, .min_p = 0.45F}, logits), {0, 2.0 / 3, 0, 1.0 / 3});
  expect_shares(shares({.temperature = 1, .min_p = 1}, logits), {0, 1, 0, 0});
}

TEST(Sampler, RepetitionPenaltyCountsEveryTokenOnceAndBothSigns) {
  Sampler sampler({.repetition_penalty = 2});
  std::vector<float> logits = {4, 3, -1, -3};
  EXPECT_EQ(sampler.pick(logits, std::vector<uint32_t>{0, 0, 2, 99}), 1U);
  EXPECT_EQ(logits, (std::vector<float>{2, 3, -2, -3}));
}

TEST(Sampler, SameSeedGivesTheSameTokens) {
  const auto draw = [](uint64_t seed) {
    Sampler sampler({.temperature = 1, .seed = seed});
    std::vector<uint32_t> out;
    for (int i = 0; i < 64; ++i) {
      std::vector<float> logits(50, 0);
      out.push_back(sampler.pick(logits, {}));
    }
    return out;
  };
  EXPECT_EQ(draw(1), draw(1));
  EXPECT_NE(draw(1), draw(2));
}

struct BadOption {
  const char* name;
  SamplingOptions options;
  const char* value;
};

TEST(Sampler, EveryOptionOutOfRangeIsRefusedWithNameValueAndRange) {
  const BadOption bad[] = {
      {"temperature", {.temperature = -1}, "-1"},
      {"temperature", {.temperature = 101}, "101"},
      {"temperature", {.temperature = NAN}, "nan"},
      {"top_p", {.top_p = 0}, "0"},
      {"top_p", {.top_p = 1.5F}, "1.5"},
      {"min_p", {.min_p = -0.5F}, "-0.5"},
      {"min_p", {.min_p = 2}, "2"},
      {"repetition_penalty", {.repetition_penalty = 0}, "0"},
      {"repetition_penalty", {.repetition_penalty = INFINITY}, "inf"},
  };
  for (const BadOption& tested : bad) {
    const Status status = check_sampling(tested.options);
    ASSERT_FALSE(status) << tested.name << ' ' << tested.value;
    EXPECT_EQ(status.error().code, ErrorCode::usage);
    EXPECT_EQ(status.error().value, tested.value);
    EXPECT_NE(status.error().message.find(tested.name), std::string::npos);
    EXPECT_NE(status.error().message.find("at most"), std::string::npos);
  }
}

TEST(Sampler, RangesIncludeTheirEnds) {
  EXPECT_TRUE(check_sampling({}));
  EXPECT_TRUE(check_sampling({.temperature = 100,
                              .top_k = 0xffffffff,
                              .top_p = 1e-6F,
                              .min_p = 1,
                              .repetition_penalty = 10}));
}

}  // namespace
}  // namespace polykv
