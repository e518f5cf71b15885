// The prefill of each family against an independent implementation, whole and after a past.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "model/decoder.h"
#include "model/prefill.h"
#include "model/prefill_split.h"
#include "model/rope.h"
#include "tests/model/family_fixture.h"
#include "tests/model/plain_attention.h"

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

class HubPrefills : public testing::TestWithParam<const char*> {};

TEST_P(HubPrefills, WhatTransformersDoes) {
  const FamilyFixture fixture = FamilyFixture::hub(GetParam());
  const ModelImage image = open_image(RawImage(fixture.path));
  const double error = fixture.error(prefill_all(image, fixture.tokens));
  std::printf("%s: off by at most %.3g\n", GetParam(), error);
  EXPECT_LE(error, kPrefillTolerance);
}

INSTANTIATE_TEST_SUITE_P(, HubPrefills, testing::ValuesIn(test::kHubs));

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
  const size_t row = size_t{image.config().n_kv_heads} * image.config().head_dim;
  second.past = [&](uint32_t layer, float* k, float* v) {
    std::ranges::copy(kept[layer].k, k);
    std::ranges::copy(kept[layer].v, v);
    const size_t hidden = row * (kPast - image.config().windows.kept(layer, kPast));
    std::fill_n(k, hidden, NAN);  // nothing may read what no new token sees
    std::fill_n(v, hidden, NAN);
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

// Texts longer than a chunk of queries, windows shorter and longer than one, against the native
// pass.
std::vector<float> decode_all(const ModelImage& image, std::span<const uint32_t> tokens) {
  const Kernels kernels = choose_kernels()->set;
  ThreadTeam team(2);
  Decoder decoder(image, kernels, team);
  test::PlainAttention attention(image.config());
  const size_t n_vocab = image.config().n_vocab;
  std::vector<float> logits(tokens.size() * n_vocab);
  for (uint32_t at = 0; at < tokens.size(); at += Decoder::kRowsMax) {
    const auto part = tokens.subspan(at, std::min<size_t>(Decoder::kRowsMax, tokens.size() - at));
    decoder.step(part, at, attention, static_cast<uint32_t>(part.size()), &logits[at * n_vocab]);
  }
  return logits;
}

double most_off(std::span<const float> found, std::span<const float> wanted) {
  double most = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    const double off = std::abs(double{found[i]} - wanted[i]);
    most = std::isfinite(off) ? std::max(most, off) : INFINITY;
  }
  return most;
}

constexpr double kLongTolerance = 2 * kFamilyTolerance;  // of the native pass, at all positions

class LongPrefill : public testing::TestWithParam<uint32_t> {};

TEST_P(LongPrefill, SeesThroughItsWindows) {
  RawImage raw(FamilyFixture("gemma3").path);
  raw.put(offsetof(ImageHeader, config.windows.tokens), GetParam());
  raw.reseal();
  const ModelImage image = open_image(raw);
  std::vector<uint32_t> tokens(1100);
  for (uint32_t i = 0; i < tokens.size(); ++i) tokens[i] = i * 7919 % 277;
  const std::vector<float> wanted = decode_all(image, tokens);
  EXPECT_LE(most_off(prefill_all(image, tokens), wanted), kLongTolerance);
  if (can_split()) {
    const auto halves = prefill_all(image, tokens, PrefillPrecision::best);
    EXPECT_LE(most_off(halves, wanted), kSplitTolerance);
  }
}

INSTANTIATE_TEST_SUITE_P(, LongPrefill, testing::Values(20, 600));

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
