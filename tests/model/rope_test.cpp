// Rotation against long double, and the algebra that attention in place relies on.
#include "model/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "tests/model/floats.h"

namespace polykv {
namespace {

ModelConfig config_of(bool interleaved) {
  ModelConfig config;
  config.head_dim = 64;
  config.rope_base = 100000.0f;
  config.rope_interleaved = interleaved ? 1 : 0;
  return config;
}

std::vector<float> random_heads(uint32_t n_heads, uint32_t seed) {
  return test::random_floats(size_t{n_heads} * 64, seed);
}

double dot(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += double{a[i]} * b[i];
  return sum;
}

TEST(Rope, PositionZeroChangesNothing) {
  const std::vector<float> before = random_heads(3, 1);
  std::vector<float> x = before;
  Rope(config_of(true)).rotate(x.data(), 3, 0);
  EXPECT_EQ(x, before);
}

TEST(Rope, PairsTurnByPositionTimesFrequencyEvenFarOut) {
  for (const int64_t position : {1, 511, 8191, 1000000}) {
    std::vector<float> x(64);
    for (uint32_t i = 0; i < 32; ++i) x[2 * i] = 1;
    Rope(config_of(true)).rotate(x.data(), 1, position);
    for (uint32_t i = 0; i < 32; ++i) {
      const long double angle = position * std::pow(100000.0L, -2.0L * i / 64);
      EXPECT_NEAR(x[2 * i], static_cast<double>(std::cos(angle)), 1e-7)
          << position << " pair " << i;
      EXPECT_NEAR(x[2 * i + 1], static_cast<double>(std::sin(angle)), 1e-7)
          << position << " pair " << i;
    }
  }
}

TEST(Rope, BothOrdersOfPairsAreOnePermutationApart) {
  const std::vector<float> before = random_heads(1, 2);
  std::vector<float> x = before, halves(64);
  for (uint32_t i = 0; i < 32; ++i) {
    halves[i] = before[2 * i];
    halves[i + 32] = before[2 * i + 1];
  }
  Rope(config_of(true)).rotate(x.data(), 1, 1234);
  Rope(config_of(false)).rotate(halves.data(), 1, 1234);
  for (uint32_t i = 0; i < 32; ++i) {
    EXPECT_EQ(halves[i], x[2 * i]);
    EXPECT_EQ(halves[i + 32], x[2 * i + 1]);
  }
}

TEST(Rope, ScoresDependOnTheDistanceOnly) {
  const Rope rope(config_of(true));
  std::vector<float> q = random_heads(1, 3), k = random_heads(1, 4);
  std::vector<float> q_far = q, k_far = k;
  rope.rotate(q.data(), 1, 40);
  rope.rotate(k.data(), 1, 7);
  rope.rotate(q_far.data(), 1, 40 + 6000);
  rope.rotate(k_far.data(), 1, 7 + 6000);
  EXPECT_NEAR(dot(q, k), dot(q_far, k_far), 1e-5);
}

TEST(Rope, ANegativePositionTurnsBack) {
  const Rope rope(config_of(true));
  const std::vector<float> before = random_heads(2, 5);
  std::vector<float> x = before;
  rope.rotate(x.data(), 2, 4096);
  rope.rotate(x.data(), 2, -4096);
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], before[i], 1e-6);
}

TEST(Rope, TwoStepsGiveTheSameBitsAsOne) {
  const Rope rope(config_of(true));
  std::vector<float> once = random_heads(9, 6), twice = once, cos(32), sin(32);
  rope.rotate(once.data(), 9, 777);
  rope.angles(777, cos.data(), sin.data());
  rope.apply(twice.data(), 9, cos.data(), sin.data());
  EXPECT_EQ(once, twice);
}

// What Hugging Face's transformers makes of Llama 3.2's numbers (f32): pair and frequency, on both
// sides of the two borders.
TEST(Rope, Llama3ScalesLongWavesOnly) {
  ModelConfig config = config_of(false);
  config.rope_base = 500000;
  config.rope_scaling = RopeScaling::llama3;
  config.rope_factor = 32;
  config.rope_low = 1;
  config.rope_high = 4;
  config.rope_positions = 8192;
  const auto found = rope_frequencies(config);
  const std::pair<size_t, double> expected[] = {
      {0, 1.0},
      {1, 0.663601279258728},
      {14, 0.0032114461064338684},
      {15, 0.0012905480107292533},
      {16, 0.000429556705057621},
      {17, 9.708286233944818e-05},
      {18, 1.9461638657958247e-05},
      {31, 9.418306490260875e-08},
  };
  for (const auto& [pair, frequency] : expected) {
    EXPECT_NEAR(found[pair], frequency, 2e-6 * frequency) << pair;
  }
}

struct Yarn {
  uint32_t head_dim, positions;
  float base, factor, fast, slow;
  std::vector<double> frequencies;  // of every head_dim/16th pair
};

// Computed by _compute_yarn_parameters of transformers 5.23.
const Yarn kYarns[] = {
    {128,
     32768,
     1e6F,
     4,
     32,
     1,
     {1.0, 0.177827941, 0.0316227766, 0.00537532149, 0.000602941176, 4.44569853e-05, 7.90569415e-06,
      1.40585331e-06}},
    {64,
     2048,
     1e4F,
     16,
     8,
     2,
     {1.0, 0.316227766, 0.1, 0.0316227766, 0.00375, 0.000197642354, 6.25e-05, 1.97642354e-05}},
};

ModelConfig yarn_config(const Yarn& yarn) {
  ModelConfig config = config_of(false);
  config.head_dim = yarn.head_dim;
  config.rope_base = yarn.base;
  config.rope_scaling = RopeScaling::yarn;
  config.rope_factor = yarn.factor;
  config.rope_high = yarn.fast;
  config.rope_low = yarn.slow;
  config.rope_positions = yarn.positions;
  config.rope_attention = 1.5F;
  return config;
}

TEST(Rope, YarnHasTheFrequenciesOfTransformers) {
  for (const Yarn& yarn : kYarns) {
    const auto found = rope_frequencies(yarn_config(yarn));
    ASSERT_EQ(found.size(), yarn.head_dim / 2);
    for (size_t i = 0; i < yarn.frequencies.size(); ++i) {
      const double wanted = yarn.frequencies[i];
      EXPECT_NEAR(found[i * yarn.head_dim / 16], wanted, 1e-7 * wanted)
          << yarn.head_dim << " " << i;
    }
  }
}

TEST(Rope, YarnsVectorsGrowOnceHoweverOftenTheyAreMoved) {
  const Rope rope(yarn_config(kYarns[1]));
  const auto x = random_heads(1, 5);
  std::vector<float> cos(32), sin(32);
  auto moved = x, direct = x;
  rope.angles(700, cos.data(), sin.data());
  rope.apply(moved.data(), 1, cos.data(), sin.data());
  const auto length = [](const std::vector<float>& v) {
    return std::sqrt(std::inner_product(v.begin(), v.end(), v.begin(), 0.0));
  };
  EXPECT_NEAR(length(moved), 1.5 * length(x), 1e-5 * length(x));
  rope.rotate(moved.data(), 1, -200);
  rope.angles(500, cos.data(), sin.data());
  rope.apply(direct.data(), 1, cos.data(), sin.data());
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(moved[i], direct[i], 1e-5);
}

TEST(Rope, LinearScalingStretchesAllWaves) {
  ModelConfig config = config_of(false);
  const auto plain = rope_frequencies(config);
  config.rope_scaling = RopeScaling::linear;
  config.rope_factor = 4;
  const auto found = rope_frequencies(config);
  for (size_t i = 0; i < plain.size(); ++i) EXPECT_DOUBLE_EQ(found[i], plain[i] / 4);
}

TEST(LayerRopes, OneForAllUnlessWindowedLayersHaveABaseOfTheirOwn) {
  ModelConfig config = config_of(true);
  config.windows = {.tokens = 16, .period = 3};
  EXPECT_EQ(LayerRopes(config).n(), 1U);
  EXPECT_EQ(LayerRopes(config).index_of(0), 0U);
  config.rope_local_base = 10000;
  const LayerRopes two(config);
  EXPECT_EQ(two.n(), 2U);
  EXPECT_EQ((std::vector{two.index_of(0), two.index_of(1), two.index_of(2), two.index_of(3)}),
            (std::vector<uint32_t>{1, 1, 0, 1}));
}

TEST(LayerRopes, WindowedLayersTurnByTheirBaseUnscaled) {
  ModelConfig config = config_of(true);
  config.windows = {.tokens = 16, .period = 2};
  config.rope_local_base = 10000;
  config.rope_scaling = RopeScaling::linear;
  config.rope_factor = 8;
  ModelConfig plain = config_of(true);
  plain.rope_base = 10000;
  std::vector<float> x = random_heads(1, 3), full = x, wanted = x, scaled = x;
  const LayerRopes ropes(config);
  ropes.of(0).rotate(x.data(), 1, 77);
  Rope(plain).rotate(wanted.data(), 1, 77);
  EXPECT_EQ(x, wanted);
  ropes.of(1).rotate(full.data(), 1, 77);
  Rope(config).rotate(scaled.data(), 1, 77);
  EXPECT_EQ(full, scaled);
  EXPECT_NE(full, x);
}

}  // namespace
}  // namespace polykv
