// Names, signs, the Hadamard transform and half precision, against known values.
#include "ipc/codec.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <set>

#include "ipc/half.h"
#include "tests/ipc/planes.h"

namespace polykv {
namespace {

TEST(CodecName, RoundTripsForEveryChoice) {
  for (const char k : std::string("234568")) {
    for (const char v : std::string("234568")) {
      const std::string name = {'k', k, 'v', v};
      const auto codec = parse_codec(name);
      ASSERT_TRUE(codec) << name;
      EXPECT_EQ(codec_name(*codec), name);
      EXPECT_EQ(code_bits(codec->k), k - '0');
      EXPECT_EQ(code_bits(codec->v), v - '0');
    }
  }
  for (const std::string name : {"f16", "f32", "paper"}) {
    ASSERT_TRUE(parse_codec(name)) << name;
    EXPECT_EQ(codec_name(*parse_codec(name)), name);
  }
}

TEST(CodecName, UnknownIsRefusedWithTheNameAndTheChoices) {
  for (const std::string name : {"", "k7v4", "k4v1", "k4", "K4V4", "k4v4 ", "q8_0", "k44v4"}) {
    const auto codec = parse_codec(name);
    ASSERT_FALSE(codec) << name;
    EXPECT_EQ(codec.error().code, ErrorCode::unknown_codec);
    EXPECT_EQ(codec.error().value, name);
    EXPECT_NE(codec.error().message.find('"' + name + '"'), std::string::npos);
    EXPECT_NE(codec.error().message.find("k4v4"), std::string::npos);
    EXPECT_NE(codec.error().message.find("paper"), std::string::npos);
  }
}

TEST(SignVector, IsTheDocumentedOneAndBalanced) {
  const auto signs = sign_vector(256);
  // splitmix64 of kSignSeed, computed step by step.
  uint64_t z = kSignSeed + 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  z ^= z >> 31;
  for (uint32_t d = 0; d < 64; ++d) EXPECT_EQ(signs[d], (z >> d & 1) != 0 ? -1.0f : 1.0f) << d;
  float sum = 0;
  for (const float sign : signs) sum += sign;
  EXPECT_LT(std::abs(sum), 64.0f);
  EXPECT_EQ(sign_vector(64).size(), 64u);
  EXPECT_EQ(sign_vector(64).data(), signs.data());
}

TEST(Hadamard, TwiceIsTheIdentityAndEnergyIsKept) {
  for (const uint32_t n : {1u, 2u, 64u, 128u, 256u}) {
    const std::vector<float> x = testing::made_up_rows(1, n, n);
    std::vector<float> y = x;
    hadamard(y.data(), n);
    double before = 0, after = 0;
    for (uint32_t i = 0; i < n; ++i) before += x[i] * x[i], after += y[i] * y[i];
    EXPECT_NEAR(after, before, 1e-5 * before);
    hadamard(y.data(), n);
    for (uint32_t i = 0; i < n; ++i) EXPECT_NEAR(y[i], x[i], 1e-6);
  }
}

TEST(Hadamard, ConstantVectorBecomesOneCoefficient) {
  std::vector<float> x(64, 1.0f);
  hadamard(x.data(), 64);
  EXPECT_NEAR(x[0], 8.0f, 1e-6);
  for (uint32_t i = 1; i < 64; ++i) EXPECT_EQ(x[i], 0.0f);
}

TEST(Hadamard, IsInNaturalOrder) {
  std::vector<float> x = {0, 1, 0, 0};
  hadamard(x.data(), 4);
  EXPECT_EQ(x, (std::vector<float>{0.5f, -0.5f, 0.5f, -0.5f}));
}

TEST(Half, EveryValueSurvivesTheRoundTrip) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = half_to_float(static_cast<uint16_t>(bits));
    const uint16_t back = float_to_half(value);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(half_to_float(back))) << bits;
    } else if (std::isinf(value)) {
      EXPECT_EQ(half_to_float(back), std::copysign(65504.0f, value)) << bits;
    } else {
      ASSERT_EQ(back, bits);
    }
  }
}

TEST(Half, RoundsToNearestEven) {
  EXPECT_EQ(half_to_float(float_to_half(1.0f + 0x1p-11f)), 1.0f);                // tie, down
  EXPECT_EQ(half_to_float(float_to_half(1.0f + 3 * 0x1p-11f)), 1.0f + 0x1p-9f);  // tie, up
  EXPECT_EQ(half_to_float(float_to_half(1.0f + 0x1.01p-11f)), 1.0f + 0x1p-10f);
  EXPECT_EQ(half_to_float(float_to_half(0x1p-25f)), 0.0f);  // tie below the smallest
  EXPECT_EQ(half_to_float(float_to_half(0x1.01p-25f)), 0x1p-24f);
  EXPECT_EQ(half_to_float(float_to_half(0x1.ff8p-15f)), 0x1.ff8p-15f);  // the largest subnormal
  EXPECT_EQ(half_to_float(float_to_half(0x1.fffp-15f)), 0x1p-14f);      // into the normals
}

TEST(Half, SaturatesInsteadOfBecomingInfinite) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(half_to_float(float_to_half(65519.0f)), 65504.0f);
  EXPECT_EQ(half_to_float(float_to_half(1e30f)), 65504.0f);
  EXPECT_EQ(half_to_float(float_to_half(-kInfinity)), -65504.0f);
}

}  // namespace
}  // namespace polykv
