// The merge of attention states.
#include "reader/partial.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace polykv {
namespace {

constexpr uint32_t kDim = 4;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

struct State {
  float max = kMinusInfinity;
  float sum = 0;
  std::vector<float> acc = std::vector<float>(kDim, 0.0f);
  Partial partial() { return {&max, &sum, acc.data()}; }
  bool operator==(const State&) const = default;
};

State of_token(float score, float value) { return {score, 1, {value, 2 * value, -value, 1}}; }

State merged(State a, State b) {
  merge(a.partial(), b.partial(), kDim);
  return a;
}

std::vector<float> result(State state) {
  std::vector<float> out(kDim);
  normalise(state.partial(), kDim, out.data());
  return out;
}

TEST(Partial, ClearedIsEmpty) {
  State state = of_token(3, 4);
  clear(state.partial(), kDim);
  EXPECT_EQ(state, State{});
}

TEST(Partial, MergingAnEmptyStateChangesNothing) {
  const State state = of_token(3, 4);
  EXPECT_EQ(merged(state, State{}), state);
  EXPECT_EQ(merged(State{}, state), state);
  EXPECT_EQ(merged(State{}, State{}), State{});
}

TEST(Partial, MergeIsTheSoftmaxOfBoth) {
  const auto out = result(merged(of_token(1, 10), of_token(2, 20)));
  const double a = std::exp(-1.0) / (1 + std::exp(-1.0));
  EXPECT_NEAR(out[0], a * 10 + (1 - a) * 20, 1e-5);
  EXPECT_NEAR(out[3], 1, 1e-6);
}

TEST(Partial, MergeIsAssociativeWithinRounding) {
  const State a = of_token(1, 1), b = of_token(-3, 5), c = of_token(2.5f, -7), empty;
  const auto left = result(merged(merged(merged(a, empty), b), c));
  const auto right = result(merged(a, merged(merged(empty, b), merged(c, empty))));
  for (uint32_t d = 0; d < kDim; ++d) EXPECT_NEAR(left[d], right[d], 1e-6);
}

TEST(Partial, FarApartScoresNeitherOverflowNorVanish) {
  const auto out = result(merged(of_token(1e30f, 3), of_token(-1e30f, 100)));
  EXPECT_EQ(out[0], 3.0f);
  const auto other = result(merged(of_token(-1e30f, 100), of_token(1e30f, 3)));
  EXPECT_EQ(other[0], 3.0f);
}

TEST(Partial, TwoStepMergeEqualsTheMerge) {
  State a = of_token(1, 2), b = of_token(4, 5);
  const State whole = merged(a, b);
  const MergeFactors factors = merge_weights(&a.max, &a.sum, b.max, b.sum);
  merge_values(a.acc.data(), b.acc.data(), factors, kDim);
  EXPECT_EQ(a, whole);
}

}  // namespace
}  // namespace polykv
