// The prefill of each family against an independent implementation, whole and after a past.
#include <gtest/gtest.h>

#include <map>

#include "model/prefill.h"
#include "model/prefill_split.h"
#include "model/rope.h"
#include "tests/model/family_fixture.h"

namespace polykv {
namespace {

using test::FamilyFixture;
using test::kFamilyTolerance;
using test::kPrefillTolerance;
using test::RawImage;

// Attention in bfloat16 halves rounds its weights and its results; these models are small and
// random, so their logits take it unsmoothed.
constexpr double kSplitTolerance = 0.06;

std::vector<float> prefill_all(const ModelImage& image, std::span<const uint32_t> tokens,
                               PrefillPrecision precision = PrefillPrecision::f32) {
  std::vector<float> logits;
  PrefillJob job;
  job.tokens = tokens;
  job.precision = precision;
  job.logits = &logits;
  auto done = prefill(image, job, 2);
  check(done.has_value(), done ? "" : done.error().message.c_str());
  return logits;
}

class FamilyPrefills : public testing::TestWithParam<const char*> {};

TEST_P(FamilyPrefills, WhatAnIndependentImplementationDoes) {
  const FamilyFixture fixture(GetParam());
  const ModelImage image = open_image(RawImage(fixture.path));
  const double error = fixture.error(prefill_all(image, fixture.tokens));
  std::printf("%s: off by at most %.3g\n", GetParam(), error);
  EXPECT_LE(error, kPrefillTolerance);
}

TEST_P(FamilyPrefills, NearlyTheSameInHalves) {
  if (!can_split()) GTEST_SKIP() << "no AMX here, or libtorch lacks the product for it";
  const FamilyFixture fixture(GetParam());
  const ModelImage image = open_image(RawImage(fixture.path));
  const double error = fixture.error(prefill_all(image, fixture.tokens, PrefillPrecision::best));
  std::printf("%s in halves: off by at most %.3g\n", GetParam(), error);
  EXPECT_LE(error, kSplitTolerance);
}

TEST_P(FamilyPrefills, TheSameInTwoParts) {
  const FamilyFixture fixture(GetParam());
  const ModelImage image = open_image(RawImage(fixture.path));
  const auto tokens = std::span<const uint32_t>(fixture.tokens);
  struct Kv {
    std::vector<float> k, v;
  };
  std::map<uint32_t, Kv> kept;
  constexpr uint32_t kPast = 33;
  const size_t floats = size_t{kPast} * image.config().n_kv_heads * image.config().head_dim;
  PrefillJob first;
  first.precision = PrefillPrecision::f32;
  first.tokens = tokens.first(kPast);
  first.layer_done = [&](const LayerKv& kv) -> Status {
    kept[kv.layer] = {{kv.k, kv.k + floats}, {kv.v, kv.v + floats}};
    return {};
  };
  ASSERT_TRUE(prefill(image, first, 2));
  std::vector<float> logits;
  PrefillJob second;
  second.precision = PrefillPrecision::f32;
  second.tokens = tokens.subspan(kPast);
  second.past_tokens = kPast;
  second.past = [&](uint32_t layer, float* k, float* v) {
    std::ranges::copy(kept[layer].k, k);
    std::ranges::copy(kept[layer].v, v);
  };
  second.logits = &logits;
  ASSERT_TRUE(prefill(image, second, 2));
  logits.insert(logits.begin(), size_t{kPast} * image.config().n_vocab, 0);
  FamilyFixture behind = fixture;
  while (behind.positions.front() < kPast) {
    behind.positions.erase(behind.positions.begin());
    behind.logits.erase(behind.logits.begin());
  }
  EXPECT_LE(behind.error(logits), kPrefillTolerance);
}

INSTANTIATE_TEST_SUITE_P(, FamilyPrefills, testing::ValuesIn(test::kFamilies));

class FamilyPrefillNeeds : public testing::TestWithParam<test::Feature> {};

TEST_P(FamilyPrefillNeeds, EachFeature) {
  const FamilyFixture fixture(GetParam().family);
  RawImage raw(fixture.path);
  GetParam().switch_off(raw);
  EXPECT_GT(fixture.error(prefill_all(open_image(raw), fixture.tokens)), 10 * kFamilyTolerance);
}

INSTANTIATE_TEST_SUITE_P(, FamilyPrefillNeeds, testing::ValuesIn(test::family_features()),
                         [](const auto& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace polykv
