// Code points: the best ones of N(0, 1), and of those that bytes hold.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "ipc/codec.h"

namespace polykv {
namespace {

double density(double x) { return std::exp(-x * x / 2) / std::sqrt(2 * M_PI); }
double tail(double x) { return std::erfc(x / std::sqrt(2)) / 2; }  // P(N > x)

// Cell i of a code book: everything nearest to point i.
struct Cell {
  double low, high;
};
Cell cell_of(std::span<const float> book, size_t i) {
  constexpr double kFar = 40;
  const double low = i == 0 ? -kFar : (static_cast<double>(book[i - 1]) + book[i]) / 2;
  const double high =
      i + 1 == book.size() ? kFar : (static_cast<double>(book[i]) + book[i + 1]) / 2;
  return {low, high};
}

// P(cell) without cancellation in the tails.
double mass(const Cell& cell) {
  return cell.low >= 0 ? tail(cell.low) - tail(cell.high) : tail(-cell.high) - tail(-cell.low);
}

double gaussian_distortion(std::span<const float> book) {
  double distortion = 1;
  for (size_t i = 0; i < book.size(); ++i) {
    const Cell cell = cell_of(book, i);
    const double c = book[i];
    const double first_moment = density(cell.low) - density(cell.high);
    distortion += mass(cell) * c * c - 2 * c * first_moment;
  }
  return distortion;
}

class CodeBook : public ::testing::TestWithParam<int> {};

TEST_P(CodeBook, AscendsAndIsSymmetric) {
  const auto book = code_book(GetParam());
  ASSERT_EQ(book.size(), size_t{1} << GetParam());
  for (size_t i = 0; i < book.size(); ++i) {
    EXPECT_EQ(book[i], -book[book.size() - 1 - i]);
    EXPECT_TRUE(i == 0 || book[i - 1] < book[i]) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Bits, CodeBook, ::testing::Values(2, 3, 4, 5, 6));

class LloydMaxBook : public ::testing::TestWithParam<int> {};

TEST_P(LloydMaxBook, EveryPointIsTheMeanOfItsCell) {
  const auto book = code_book(GetParam());
  for (size_t i = 0; i < book.size(); ++i) {
    const Cell cell = cell_of(book, i);
    EXPECT_NEAR(book[i], (density(cell.low) - density(cell.high)) / mass(cell), 1e-6) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Bits, LloydMaxBook, ::testing::Values(2, 3, 4));

TEST(LloydMaxPoints, MatchesPublishedPointsToSixDigits) {
  constexpr float kBook3[] = {0.245094f, 0.756005f, 1.343909f, 2.151946f};
  constexpr float kBook4[] = {0.128395f, 0.388048f, 0.656759f, 0.942340f,
                              1.256231f, 1.618046f, 2.069017f, 2.732590f};
  EXPECT_NEAR(code_book(2)[2], 0.452780f, 1e-6);
  EXPECT_NEAR(code_book(2)[3], 1.510418f, 1e-6);
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(code_book(3)[4 + i], kBook3[i], 1e-6);
  for (size_t i = 0; i < 8; ++i) EXPECT_NEAR(code_book(4)[8 + i], kBook4[i], 1e-6);
}

TEST(LloydMaxPoints, ReachesTheKnownDistortionOfAGaussian) {
  EXPECT_NEAR(gaussian_distortion(code_book(2)), 0.117482, 1e-6);
  EXPECT_NEAR(gaussian_distortion(code_book(3)), 0.034548, 1e-6);
  EXPECT_NEAR(gaussian_distortion(code_book(4)), 0.009501, 1e-6);
}

constexpr int kMost = 127;  // what a signed byte holds on both sides

// Mass and moments of N(0, 1) above x, from its density and tail alone.
struct Above {
  double mass, first, second;
};
Above above(double x) { return {tail(x), density(x), tail(x) + x * density(x)}; }

// The square error of what lies between two borders and is coded as `point`.
double error_between(const Above& low, const Above& high, double point) {
  return (low.second - high.second) - 2 * point * (low.first - high.first) +
         point * point * (low.mass - high.mass);
}

struct Points {
  double distortion;
  std::vector<int> multiples;  // the positive ones
};

// The best 2n symmetric points among the multiples of `step` that bytes hold: the error between two
// neighbours depends on these two alone, so the shortest path through n multiples is the best book.
Points best_multiples(size_t n, double step) {
  std::array<Above, 2 * kMost + 1> at;  // half steps: borders lie there
  for (int i = 0; i <= 2 * kMost; ++i) at[i] = above(i * step / 2);
  const auto between = [&](int a, int b) {
    return error_between(at[2 * a], at[a + b], a * step) +
           error_between(at[a + b], at[2 * b], b * step);
  };
  std::vector<double> gap((kMost + 1) * (kMost + 1));
  for (int a = 1; a <= kMost; ++a) {
    for (int b = a + 1; b <= kMost; ++b) gap[a * (kMost + 1) + b] = between(a, b);
  }
  constexpr double kNone = std::numeric_limits<double>::infinity();
  std::vector<double> error(kMost + 1, kNone);  // of the points so far, the last of them here
  for (int a = 1; a <= kMost; ++a) error[a] = error_between(at[0], at[2 * a], a * step);
  std::vector<std::vector<int>> before;
  while (before.size() + 1 < n) {
    std::vector<double> next(kMost + 1, kNone);
    auto& from = before.emplace_back(kMost + 1);
    for (int a = 1; a <= kMost; ++a) {
      for (int b = a + 1; b <= kMost; ++b) {
        const double sum = error[a] + gap[a * (kMost + 1) + b];
        if (sum < next[b]) next[b] = sum, from[b] = a;
      }
    }
    error = next;
  }
  for (int a = 1; a <= kMost; ++a) error[a] += error_between(at[2 * a], {}, a * step);
  const auto last = std::ranges::min_element(error);
  Points best{2 * *last, {static_cast<int>(last - error.begin())}};
  while (!before.empty()) {
    best.multiples.insert(best.multiples.begin(), before.back()[best.multiples.front()]);
    before.pop_back();
  }
  return best;
}

class PointsInBytes : public ::testing::TestWithParam<int> {
 protected:
  std::span<const float> book() const { return code_book(GetParam()); }
  float step() const { return code_step(GetParam()); }
  size_t half() const { return book().size() / 2; }
};

TEST_P(PointsInBytes, AreTheBestMultiplesOfTheirStep) {
  const Points best = best_multiples(half(), step());
  EXPECT_LE(best.multiples.back(), kMost);
  for (size_t i = 0; i < half(); ++i) {
    EXPECT_EQ(book()[half() + i], static_cast<float>(best.multiples[i]) * step()) << i;
  }
  EXPECT_NEAR(gaussian_distortion(book()), best.distortion, 1e-9);
}

TEST_P(PointsInBytes, HaveAStepThatNoOtherBeats) {
  const double ours = gaussian_distortion(book());
  for (int eighths = 15 * 8; eighths < 60 * 8; ++eighths) {
    EXPECT_GT(best_multiples(half(), 8.0 / eighths).distortion, 0.9995 * ours) << eighths;
  }
}

// The best of any points have 0.0025047 and 0.0006442.
TEST_P(PointsInBytes, CostNextToNothing) {
  const bool five = GetParam() == 5;
  EXPECT_LT(gaussian_distortion(book()), five ? 1.006 * 0.0025047 : 1.020 * 0.0006442);
}

INSTANTIATE_TEST_SUITE_P(Bits, PointsInBytes, ::testing::Values(5, 6));

TEST(CodeStep, IsThatOfTheWidthsWhosePointsBytesHold) {
  for (const int bits : {2, 3, 4}) EXPECT_EQ(code_step(bits), 0) << bits;
  EXPECT_EQ(code_step(8), 1);
}

TEST(CodePoints, EightBitsAreUniform) {
  ASSERT_EQ(code_book(8).size(), 256u);
  EXPECT_EQ(code_book(8)[0], -128.0f);
  EXPECT_EQ(code_book(8)[255], 127.0f);
}

TEST(CodePoints, OfUnknownWidthIsEmpty) {
  EXPECT_TRUE(code_book(1).empty());
  EXPECT_TRUE(code_book(7).empty());
}

}  // namespace
}  // namespace polykv
