// Layers with a window attend to the pool and to private tokens as the textbook says, and no row
// notices who shares its pass.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/agents/made_up_context.h"

namespace polykv {
namespace {

using test::MadeUpContext;
using test::windowed_config;
using Rows = MadeUpContext::Rows;

AttendKernel best() { return choose_attend_kernel()->kernel; }

// Rows at positions [begin, end) after a layout, `chunk` at a time: [n_layers][n, n_heads,
// head_dim].
Rows through_the_pool(const MadeUpContext& context, const Layout& layout, uint32_t end,
                      uint32_t chunk) {
  ThreadTeam team(2);
  const AttendKernel kernel = best();
  PoolAttention attention(context.config(), layout, kernel, team);
  Suffix suffix(context.config(), layout);
  EXPECT_TRUE(suffix.reserve(0, end - layout.n_tokens));
  Rows out(context.config().n_layers);
  for (uint32_t begin = layout.n_tokens; begin < end; begin += chunk) {
    std::vector<uint32_t> positions;
    for (uint32_t p = begin; p < std::min(begin + chunk, end); ++p) positions.push_back(p);
    const std::vector<Suffix*> suffixes(positions.size(), &suffix);
    for (uint32_t layer = 0; layer < out.size(); ++layer) {
      const auto rows = context.attend(attention, layer, positions, suffixes);
      out[layer].insert(out[layer].end(), rows.begin(), rows.end());
    }
  }
  return out;
}

// What `all` has from a position on.
Rows from(const Rows& all, size_t position, size_t width) {
  Rows rest;
  for (const auto& layer : all) rest.emplace_back(layer.begin() + position * width, layer.end());
  return rest;
}

double difference(const Rows& a, const Rows& b, uint32_t layer) {
  double worst = 0;
  EXPECT_EQ(a[layer].size(), b[layer].size());
  for (size_t i = 0; i < a[layer].size(); ++i) {
    worst = std::max(worst, std::abs(double{a[layer][i]} - b[layer][i]));
  }
  return worst;
}

double rms(const Rows& a, const Rows& b, uint32_t layer) {
  double sum = 0;
  for (size_t i = 0; i < a[layer].size(); ++i) {
    sum += (double{a[layer][i]} - b[layer][i]) * (double{a[layer][i]} - b[layer][i]);
  }
  return std::sqrt(sum / static_cast<double>(a[layer].size()));
}

struct Case {
  const char* name;
  uint32_t window, period;
  float local_base;
  std::vector<uint32_t> segments;
  uint32_t n_private;
};

std::ostream& operator<<(std::ostream& to, const Case& tested) {
  return to << "windows of " << tested.window;
}

ModelConfig config_of(const Case& tested) {
  ModelConfig config = windowed_config(tested.window, tested.local_base);
  if (tested.window != 0) config.windows.period = tested.period;
  return config;
}

class Windows : public testing::TestWithParam<Case> {
 protected:
  Windows() : context_(config_of(GetParam()), n_tokens()) {}
  static uint32_t n_pool() {
    uint32_t n = 0;
    for (const uint32_t length : GetParam().segments) n += length;
    return n;
  }
  static uint32_t n_tokens() { return n_pool() + GetParam().n_private; }
  Rows through(const Layout& layout, uint32_t chunk = 64) const {
    return through_the_pool(context_, layout, n_tokens(), chunk);
  }
  Rows plain(const Rows& all) const { return from(all, n_pool(), context_.width()); }

  MadeUpContext context_;
};

// Positions before, on and after each border: of windows with segments, parts, tiles and the
// private rows.
TEST_P(Windows, AreThoseOfTheTextbook) {
  const Rows wanted = plain(context_.attended());
  const Rows f32 = through(context_.layout(GetParam().segments, "f32"));
  const Rows f16 = through(context_.layout(GetParam().segments, "f16"));
  for (uint32_t layer = 0; layer < 3; ++layer) {
    EXPECT_LT(difference(f32, wanted, layer), 2e-5) << "layer " << layer;
    EXPECT_LT(difference(f16, wanted, layer), 1e-2) << "layer " << layer;
  }
}

// What rounding private rows to f16 costs, by far the most where a window shows nothing else:
// measured 2.2e-4.
constexpr double kPrivateRows = 3e-4;

// An error of the arithmetic in integers is a tenth of the codec's own.
TEST_P(Windows, AreWithinTheCodecsBound) {
  const Rows exact = plain(context_.attended());
  for (const char* codec : {"k4v4", "k8v3"}) {
    const Layout layout = context_.layout(GetParam().segments, codec);
    const Rows ours = through(layout), encoded = plain(context_.attended_as_encoded(layout));
    for (uint32_t layer = 0; layer < 3; ++layer) {
      EXPECT_LT(rms(ours, encoded, layer), 0.1 * rms(exact, encoded, layer) + kPrivateRows)
          << codec << layer;
      EXPECT_LT(rms(exact, encoded, layer), 0.2) << codec << layer;
    }
  }
}

// Keys that were hard: every plane of K in a width of its own.
TEST_P(Windows, TakePlanesOfKInAnyWidth) {
  context_.widen({PlaneCodec::rot8, PlaneCodec::f16, PlaneCodec::rot5, PlaneCodec::rot6,
                  PlaneCodec::f16, PlaneCodec::rot4});
  const Rows exact = plain(context_.attended());
  const Layout layout = context_.layout(GetParam().segments, "k4v4");
  ASSERT_EQ(layout.spans.front().segment.wide_planes().size(), 5u);
  const Rows ours = through(layout, 1), encoded = plain(context_.attended_as_encoded(layout));
  for (uint32_t layer = 0; layer < 3; ++layer) {
    EXPECT_LT(rms(ours, encoded, layer), 0.1 * rms(exact, encoded, layer) + kPrivateRows) << layer;
  }
  EXPECT_EQ(through(layout, 17), ours);
}

TEST_P(Windows, GiveEachRowTheSameHoweverManyShareThePass) {
  const Layout layout = context_.layout(GetParam().segments, "k4v4");
  const Rows one_by_one = through(layout, 1);
  for (const uint32_t chunk : {3u, 17u, 64u})
    EXPECT_EQ(through(layout, chunk), one_by_one) << chunk;
}

INSTANTIATE_TEST_SUITE_P(
    , Windows,
    testing::Values(Case{"ThatEndAmongPrivateRows", 100, 3, 500, {300}, 150},
                    Case{"LongerThanASplit", 700, 3, 500, {1100}, 120},
                    Case{"LongerThanThePool", 100, 3, 500, {50}, 130},
                    Case{"OverSeveralSegments", 130, 3, 500, {90, 40, 120, 3, 31}, 140},
                    Case{"OfTwoTokens", 2, 3, 500, {70}, 70},
                    Case{"OfASegmentsLength", 64, 2, 500, {64, 64}, 70},
                    Case{"OfEveryLayerWithOneBase", 90, 0, 0, {200, 30}, 100},
                    Case{"ThatNoLayerHas", 0, 0, 0, {600, 30}, 70}),
    [](const auto& tested) { return tested.param.name; });

// Streams of different length, each with a window of its own, in one pass.
TEST(WindowsOfLanes, AreEachLanesOwn) {
  const uint32_t n_pool = 300, n_tokens = 500;
  const MadeUpContext context(windowed_config(100), n_tokens);
  const Layout layout = context.layout({200, 100}, "k4v4");
  const Rows alone = through_the_pool(context, layout, n_tokens, 64);
  ThreadTeam team(2);
  const AttendKernel kernel = best();
  PoolAttention attention(context.config(), layout, kernel, team);
  const std::vector<uint32_t> lengths = {150, 0, 63, 98, 99, 100, 101, 36, 37, 199};
  std::vector<Suffix> suffixes;
  for (size_t lane = 0; lane < lengths.size(); ++lane) suffixes.emplace_back(context.config());
  std::vector<uint32_t> last;
  std::vector<Suffix*> whose;
  for (size_t lane = 0; lane < lengths.size(); ++lane) {
    ASSERT_TRUE(suffixes[lane].reserve(0, 200));
    for (uint32_t p = n_pool; p < n_pool + lengths[lane]; ++p) {
      for (uint32_t layer = 0; layer < 3; ++layer) {
        (void)context.attend(attention, layer, {p}, {&suffixes[lane]});
      }
    }
    last.push_back(n_pool + lengths[lane]);
    whose.push_back(&suffixes[lane]);
  }
  for (uint32_t layer = 0; layer < 3; ++layer) {
    const auto together = context.attend(attention, layer, last, whose);
    for (size_t lane = 0; lane < lengths.size(); ++lane) {
      const auto row = alone[layer].begin() + lengths[lane] * context.width();
      EXPECT_TRUE(std::equal(row, row + context.width(), &together[lane * context.width()]))
          << "layer " << layer << ", lane " << lane;
    }
  }
}

// Not little weight: none.
TEST(WindowsEdge, WhatLiesBeforeItHasNoWeightAndWhatLiesOnItHas) {
  const uint32_t window = 100, n_pool = 300, n_tokens = 460;
  MadeUpContext context(windowed_config(window), n_tokens);
  const size_t width = context.width();
  const auto run = [&] {
    return through_the_pool(context, context.layout({200, 100}, "f32"), n_tokens, 64);
  };
  for (const uint32_t position : {300u, 330u, 398u, 399u, 400u, 459u}) {
    const Rows before = run();
    context.change(0, position - window + 1);
    const Rows changed = run();
    context.change(position - window + 1, position - window + 2);
    const Rows at_the_edge = run();
    const size_t row = (position - n_pool) * width;
    for (uint32_t layer = 0; layer < 3; ++layer) {
      const auto same = [&](const Rows& a, const Rows& b) {
        return std::equal(&a[layer][row], &a[layer][row] + width, &b[layer][row]);
      };
      EXPECT_EQ(same(before, changed), layer < 2) << position << ", layer " << layer;
      EXPECT_FALSE(same(changed, at_the_edge)) << position << ", layer " << layer;
    }
  }
}

// Private rows take two bytes a number; after segments that are references they stay exact.
TEST(PrivateRows, AreF16UnlessTheLayoutIsAReference) {
  const MadeUpContext context(windowed_config(0), 100);
  const ModelConfig& config = context.config();
  const auto bytes = [&](const Layout& layout) {
    Suffix suffix(config, layout);
    EXPECT_TRUE(suffix.reserve(0, 10));
    return suffix.bytes();
  };
  const uint64_t numbers = uint64_t{2} * 10 * config.n_layers * config.n_kv_heads * config.head_dim;
  for (const char* codec : {"k4v4", "k8v3", "paper"}) {
    EXPECT_EQ(bytes(context.layout({60, 40}, codec)), 2 * numbers) << codec;
  }
  for (const char* codec : {"f16", "f32"}) {
    EXPECT_EQ(bytes(context.layout({60, 40}, codec)), 4 * numbers) << codec;
  }
}

// Two layers of three keep 99 of 1,000 tokens.
TEST(WindowsSize, IsThatOfTheTail) {
  const MadeUpContext windowed(windowed_config(100), 1000), whole(windowed_config(0), 1000);
  for (const char* codec : {"f32", "k4v4"}) {
    const SegmentView small = windowed.layout({1000}, codec).spans[0].segment;
    const SegmentView large = whole.layout({1000}, codec).spans[0].segment;
    const double ratio = static_cast<double>(small.bytes()) / static_cast<double>(large.bytes());
    EXPECT_NEAR(ratio, (2 * 99 + 1000) / 3000.0, 0.02) << codec;
    EXPECT_EQ(small.elements(), (2u * 99 + 1000) * 2 * 2 * 64);
  }
}

}  // namespace
}  // namespace polykv
