// The kernels against exact arithmetic, and the promise that a row's result does not depend on its
// company.
#include "model/kernels.h"

#include <cmath>

#include "tests/model/synthetic_weight.h"

namespace polykv {
namespace {

using test::SyntheticWeight;
using test::weight_shapes;

std::vector<float> random_floats(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& v : values) v = normal(random);
  return values;
}

std::vector<float> multiply(const Kernels& set, const Weight& w, const std::vector<float>& x) {
  const auto n = static_cast<uint32_t>(x.size() / w.n_cols);
  std::vector<float> y(size_t{n} * w.n_rows), scratch(w.n_cols);
  set.matmul(w, x.data(), n, 0, w.n_rows, y.data(), scratch.data());
  return y;
}

TEST(Dequantise, W4BlockHoldsLowNibblesFirst) {
  std::vector<std::byte> bytes(16, std::byte{0xf1});
  bytes[3] = std::byte{0x2e};
  const uint16_t scales[] = {float_to_half(0.5f), float_to_half(-1.0f)};
  const Weight w{WeightType::w4, 1, 32, 32, 1, bytes.data(), scales};
  std::vector<float> row(32);
  dequantise_row(w, 0, row.data());
  EXPECT_EQ(row[0], -0.5f);
  EXPECT_EQ(row[16], 6.5f);
  EXPECT_EQ(row[3], 6.0f);
  EXPECT_EQ(row[19], 0.0f);
}

TEST(Dequantise, W8IsSignedAndTakesItsOwnBlockAndMinimum) {
  std::vector<std::byte> bytes(32, std::byte{0x80});
  bytes[16] = std::byte{127};
  const uint16_t scales[] = {float_to_half(0.25f), float_to_half(1.0f), float_to_half(2.0f),
                             float_to_half(-4.0f)};
  const Weight w{WeightType::w8, 1, 32, 16, 1, bytes.data(), scales};
  std::vector<float> row(32);
  dequantise_row(w, 0, row.data());
  EXPECT_EQ(row[0], -31.0f);
  EXPECT_EQ(row[15], -31.0f);
  EXPECT_EQ(row[16], 250.0f);
  EXPECT_EQ(row[17], -260.0f);
}

// A unit vector picks out one weight: what the vector code dequantises must be the same to the last
// bit.
TEST(Matmul, UnitVectorsGiveTheDequantisedWeightsExactly) {
  for (const auto& shape : weight_shapes()) {
    const SyntheticWeight matrix(shape, 11);
    std::vector<float> row(shape.n_cols);
    std::vector<float> units(size_t{shape.n_cols} * shape.n_cols);
    for (uint32_t c = 0; c < shape.n_cols; ++c) units[size_t{c} * shape.n_cols + c] = 1;
    for (const Kernels& set : kernel_sets()) {
      const std::vector<float> y = multiply(set, matrix.weight(), units);
      for (uint32_t r = 0; r < shape.n_rows; ++r) {
        dequantise_row(matrix.weight(), r, row.data());
        for (uint32_t c = 0; c < shape.n_cols; ++c) {
          ASSERT_EQ(y[size_t{c} * shape.n_rows + r], row[c])
              << set.name << " type " << static_cast<int>(shape.type) << " row " << r << " column "
              << c;
        }
      }
    }
  }
}

TEST(Matmul, EverySetIsWithinRoundingOfExactSums) {
  for (const auto& shape : weight_shapes()) {
    const SyntheticWeight matrix(shape, 12);
    const std::vector<float> x = random_floats(size_t{5} * shape.n_cols, 13);
    std::vector<float> row(shape.n_cols);
    for (const Kernels& set : kernel_sets()) {
      const std::vector<float> y = multiply(set, matrix.weight(), x);
      for (uint32_t i = 0; i < y.size(); ++i) {
        dequantise_row(matrix.weight(), i % shape.n_rows, row.data());
        double sum = 0, size = 0;
        for (uint32_t c = 0; c < shape.n_cols; ++c) {
          const double product = double{row[c]} * x[size_t{i / shape.n_rows} * shape.n_cols + c];
          sum += product;
          size += std::abs(product);
        }
        ASSERT_NEAR(y[i], sum, size * 6e-7) << set.name << " type " << static_cast<int>(shape.type);
      }
    }
  }
}

TEST(Matmul, ARowIsBitwiseTheSameAloneAndInAnyCompany) {
  for (const auto& shape : weight_shapes()) {
    const SyntheticWeight matrix(shape, 14);
    for (const Kernels& set : kernel_sets()) {
      const std::vector<float> x = random_floats(size_t{32} * shape.n_cols, 15);
      std::vector<float> alone;
      for (uint32_t m = 0; m < 32; ++m) {
        const auto first = x.begin() + m * shape.n_cols;
        const auto y = multiply(set, matrix.weight(), {first, first + shape.n_cols});
        alone.insert(alone.end(), y.begin(), y.end());
      }
      for (uint32_t n = 1; n <= 32; ++n) {
        const auto y = multiply(set, matrix.weight(), {x.begin(), x.begin() + n * shape.n_cols});
        ASSERT_EQ(std::memcmp(y.data(), alone.data(), y.size() * sizeof(float)), 0)
            << set.name << " type " << static_cast<int>(shape.type) << " rows " << n;
      }
    }
  }
}

TEST(Matmul, ARangeOfRowsWritesOnlyItself) {
  for (const Kernels& set : kernel_sets()) {
    const SyntheticWeight matrix({WeightType::w4, 40, 64, 32, 1}, 16);
    const std::vector<float> x = random_floats(4 * 64, 17);
    const std::vector<float> whole = multiply(set, matrix.weight(), x);
    std::vector<float> part(whole.size(), 77.0f), scratch(64);
    set.matmul(matrix.weight(), x.data(), 4, 9, 23, part.data(), scratch.data());
    for (uint32_t i = 0; i < part.size(); ++i) {
      const bool inside = i % 40 >= 9 && i % 40 < 23;
      ASSERT_EQ(part[i], inside ? whole[i] : 77.0f) << set.name << " at " << i;
    }
  }
}

TEST(ChooseKernels, TakesTheFirstTrustedSetUnlessOneIsNamed) {
  ASSERT_FALSE(kernel_sets().empty());
  EXPECT_EQ(kernel_sets().back().name, "ref");
  EXPECT_EQ(kernel_fallbacks(), 0);
  EXPECT_EQ(choose_kernels()->name, kernel_sets().front().name);
  for (const Kernels& set : kernel_sets()) EXPECT_EQ(choose_kernels(set.name)->matmul, set.matmul);
}

TEST(ChooseKernels, AnUnknownNameIsRefusedWithTheChoices) {
  const Result<Kernels> chosen = choose_kernels("mmx");
  ASSERT_FALSE(chosen);
  EXPECT_EQ(chosen.error().code, ErrorCode::usage);
  EXPECT_EQ(chosen.error().value, "mmx");
  EXPECT_NE(chosen.error().message.find("mmx"), std::string::npos);
  EXPECT_NE(chosen.error().limit.find("ref"), std::string::npos);
}

TEST(RmsNorm, DividesByTheRootMeanSquare) {
  const std::vector<float> x = random_floats(61, 18), weight = random_floats(61, 19);
  std::vector<float> out(61);
  rms_norm(x.data(), weight.data(), 61, 1e-5f, out.data());
  double sum = 0;
  for (float v : x) sum += double{v} * v;
  for (uint32_t i = 0; i < 61; ++i) {
    const double expected = x[i] / std::sqrt(sum / 61 + 1e-5) * weight[i];
    EXPECT_NEAR(out[i], expected, std::abs(expected) * 3e-7);
  }
}

TEST(Swiglu, IsTheGateTimesItsSigmoidTimesUp) {
  std::vector<float> gate = {0, 1, -1, 20, -20, 90, -90, 0.3f};
  const std::vector<float> before = gate, up = {3, 2, 5, -1, 7, 2, 2, 0.1f};
  swiglu(gate.data(), up.data(), 8);
  for (size_t i = 0; i < gate.size(); ++i) {
    const double expected = before[i] / (1 + std::exp(-double{before[i]})) * up[i];
    EXPECT_NEAR(gate[i], expected, std::abs(expected) * 4e-7 + 1e-36) << before[i];
  }
}

}  // namespace
}  // namespace polykv
