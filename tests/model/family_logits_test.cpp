// The native forward pass of each family against an independent implementation.
#include <gtest/gtest.h>

#include "model/decoder.h"
#include "tests/model/family_fixture.h"
#include "tests/model/plain_attention.h"

namespace polykv {
namespace {

using test::FamilyFixture;
using test::kFamilyTolerance;
using test::RawImage;

std::vector<float> decode(const ModelImage& image, const std::vector<uint32_t>& tokens,
                          uint32_t chunk) {
  const Kernels kernels = choose_kernels()->set;
  ThreadTeam team(2);
  Decoder decoder(image, kernels, team);
  test::PlainAttention attention(image.config());
  std::vector<float> logits(tokens.size() * image.config().n_vocab);
  for (uint32_t at = 0; at < tokens.size(); at += chunk) {
    const auto n = static_cast<uint32_t>(std::min<size_t>(chunk, tokens.size() - at));
    decoder.step(std::span(tokens).subspan(at, n), at, attention, n,
                 &logits[size_t{at} * image.config().n_vocab]);
  }
  return logits;
}

class FamilyDecodes : public testing::TestWithParam<const char*> {};

TEST_P(FamilyDecodes, WhatAnIndependentImplementationDoes) {
  const FamilyFixture fixture(GetParam());
  const ModelImage image = open_image(RawImage(fixture.path));
  for (const uint32_t chunk : {1U, 32U}) {
    const double error = fixture.error(decode(image, fixture.tokens, chunk));
    std::printf("%s, %u at a time: off by at most %.3g\n", GetParam(), chunk, error);
    EXPECT_LE(error, kFamilyTolerance) << chunk;
  }
}

INSTANTIATE_TEST_SUITE_P(, FamilyDecodes, testing::ValuesIn(test::kFamilies));

class FamilyNeeds : public testing::TestWithParam<test::Feature> {};

TEST_P(FamilyNeeds, EachFeature) {
  const FamilyFixture fixture(GetParam().family);
  RawImage raw(fixture.path);
  GetParam().switch_off(raw);
  EXPECT_GT(fixture.error(decode(open_image(raw), fixture.tokens, 32)), 10 * kFamilyTolerance);
}

INSTANTIATE_TEST_SUITE_P(, FamilyNeeds, testing::ValuesIn(test::family_features()),
                         [](const auto& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace polykv
