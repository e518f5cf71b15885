// The gates of feed-forward blocks, SiLU's and GELU's, in every kernel set.
#include <gtest/gtest.h>

#include <cmath>

#include "model/kernels.h"
#include "tests/model/floats.h"

namespace polykv {
namespace {

using test::random_floats;
using test::same_bits;

TEST(Swiglu, IsTheGateTimesItsSigmoidTimesUp) {
  const std::vector<float> before = {0, 1, -1, 20, -20, 90, -90, 0.3f, -87.5f, 1e30f, -1e30f};
  const std::vector<float> up = {3, 2, 5, -1, 7, 2, 2, 0.1f, 1, 1, 1e-30f};
  for (const Kernels& set : kernel_sets()) {
    std::vector<float> gate = before;
    set.swiglu(gate.data(), up.data(), static_cast<uint32_t>(gate.size()));
    for (size_t i = 0; i + 1 < gate.size(); ++i) {
      const double expected = before[i] / (1 + std::exp(-double{before[i]})) * up[i];
      EXPECT_NEAR(gate[i], expected, std::abs(expected) * 4e-7 + 2e-36) << before[i];
    }
    EXPECT_LE(std::abs(gate.back()), 1e-30f);
  }
}

TEST(Geglu, IsTheGateTimesTheApproximatedNormalTimesUp) {
  const std::vector<float> before = {0, 1, -1, 20, -20, 4, -4, 0.3f, -5.5f, -8, 1e30f, -1e30f};
  const std::vector<float> up = {3, 2, 5, -1, 7, 2, 2, 0.1f, 1, 1, 1, 1e-30f};
  for (const Kernels& set : kernel_sets()) {
    std::vector<float> gate = before;
    set.geglu(gate.data(), up.data(), static_cast<uint32_t>(gate.size()));
    for (size_t i = 0; i + 1 < gate.size(); ++i) {
      const double x = before[i], u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
      const double expected = x / (1 + std::exp(-2 * u)) * up[i];  // (1 + tanh(u)) / 2
      EXPECT_NEAR(gate[i], expected, std::abs(expected) * 6e-6 + 2e-36) << x;
    }
    EXPECT_LE(std::abs(gate.back()), 1e-30f);
  }
}

class Gates : public testing::TestWithParam<std::pair<GatedFn Kernels::*, GatedFn>> {};

TEST_P(Gates, GiveTheSameBitsInEverySet) {
  const auto [member, specified] = GetParam();
  for (const size_t n : {1u, 7u, 8u, 9u, 1537u}) {
    std::vector<float> gate = random_floats(n, 27), up = random_floats(n, 28);
    for (size_t i = 0; i < n; ++i) gate[i] *= static_cast<float>(i % 40);
    std::vector<float> wanted = gate;
    specified(wanted.data(), up.data(), static_cast<uint32_t>(n));
    for (const Kernels& set : kernel_sets()) {
      std::vector<float> got = gate;
      (set.*member)(got.data(), up.data(), static_cast<uint32_t>(n));
      EXPECT_TRUE(same_bits(got, wanted)) << set.name << " of " << n;
    }
  }
}

TEST_P(Gates, NotANumberStaysOne) {
  for (const Kernels& set : kernel_sets()) {
    std::vector<float> gate(9, NAN);
    const std::vector<float> up(9, 1);
    (set.*GetParam().first)(gate.data(), up.data(), 9);
    for (const float x : gate) EXPECT_TRUE(std::isnan(x)) << set.name;
  }
}

INSTANTIATE_TEST_SUITE_P(, Gates,
                         testing::Values(std::pair{&Kernels::swiglu, &swiglu_ref},
                                         std::pair{&Kernels::geglu, &geglu_ref}),
                         [](const auto& tested) {
                           return tested.param.second == &swiglu_ref ? "SwiGlu" : "GeGlu";
                         });

}  // namespace
}  // namespace polykv
