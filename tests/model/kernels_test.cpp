// The kernels against exact arithmetic, and the promise that a row's result does not depend on its
// company.
#include "model/kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "model/image_blocks.h"
#include "model/weight_layout.h"
#include "tests/model/floats.h"
#include "tests/model/synthetic_weight.h"

namespace polykv {
namespace {

using test::random_floats;
using test::same_bits;
using test::SyntheticWeight;
using test::weight_shapes;

std::vector<float> multiply(const Kernels& set, const Weight& w, const std::vector<float>& x) {
  const auto n = static_cast<uint32_t>(x.size() / w.n_cols);
  const ActivationBuffer buffer(n, w.n_cols);
  const Activations in = buffer.of(x.data(), n, w.n_cols);
  set.quantise(in, 0, n);
  std::vector<float> y(size_t{n} * w.n_rows), scratch(matmul_scratch_floats(w.n_cols));
  set.matmul(w, in, 0, w.n_rows, y.data(), scratch.data());
  return y;
}

// One row of a packed matrix, its group's 15 others zero.
struct OneRow {
  std::vector<std::byte> bytes;
  std::vector<uint16_t> scales;
  Weight weight;

  OneRow(WeightType type, uint32_t block, const std::vector<std::byte>& codes,
         const std::vector<uint16_t>& halves)
      : bytes(512), scales(16 * 4) {
    weight = {type, 1, 32, block, 1, bytes.data(), scales.data()};
    const size_t n_codes = codes.size() / (32 / block), n_halves = 2;
    for (uint32_t b = 0; b < 32 / block; ++b) {
      place_block({codes.data() + b * n_codes,
                   reinterpret_cast<const std::byte*>(halves.data() + b * n_halves)},
                  weight, 0, b, {bytes.data(), reinterpret_cast<std::byte*>(scales.data())});
    }
  }
};

TEST(Dequantise, W4BlockHoldsLowNibblesFirst) {
  std::vector<std::byte> bytes(16, std::byte{0xf1});
  bytes[3] = std::byte{0x2e};
  const OneRow w(WeightType::w4, 32, bytes, {float_to_half(0.5f), float_to_half(-1.0f)});
  std::vector<float> row(32);
  dequantise_row(w.weight, 0, row.data());
  EXPECT_EQ(row[0], -0.5f);
  EXPECT_EQ(row[16], 6.5f);
  EXPECT_EQ(row[3], 6.0f);
  EXPECT_EQ(row[19], 0.0f);
}

TEST(Dequantise, W8IsSignedAndTakesItsOwnBlockAndMinimum) {
  std::vector<std::byte> bytes(32, std::byte{0x80});
  bytes[16] = std::byte{127};
  const OneRow w(
      WeightType::w8, 16, bytes,
      {float_to_half(0.25f), float_to_half(1.0f), float_to_half(2.0f), float_to_half(-4.0f)});
  std::vector<float> row(32);
  dequantise_row(w.weight, 0, row.data());
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

// Rounding of f32 sums; where x is quantised, half a step of the block's largest magnitude, too.
TEST(Matmul, EverySetIsWithinRoundingOfExactSums) {
  for (const auto& shape : weight_shapes()) {
    const SyntheticWeight matrix(shape, 12);
    const std::vector<float> x = random_floats(size_t{5} * shape.n_cols, 13);
    const float x_top = *std::ranges::max_element(x, {}, [](float v) { return std::abs(v); });
    const double step = shape.block > 0 ? std::abs(x_top) * 0x1p-15 : 0;
    std::vector<float> row(shape.n_cols);
    for (const Kernels& set : kernel_sets()) {
      const std::vector<float> y = multiply(set, matrix.weight(), x);
      for (uint32_t i = 0; i < y.size(); ++i) {
        dequantise_row(matrix.weight(), i % shape.n_rows, row.data());
        double sum = 0, size = 0, rounding = 0;
        for (uint32_t c = 0; c < shape.n_cols; ++c) {
          const double product = double{row[c]} * x[size_t{i / shape.n_rows} * shape.n_cols + c];
          sum += product;
          size += std::abs(product);
          rounding += std::abs(row[c]) * step;
        }
        ASSERT_NEAR(y[i], sum, size * 6e-7 + rounding)
            << set.name << " type " << static_cast<int>(shape.type);
      }
    }
  }
}

TEST(Matmul, PackedProductsHaveTheSameBitsInEverySet) {
  for (const auto& shape : weight_shapes()) {
    if (shape.block == 0) continue;
    const SyntheticWeight matrix(shape, 21);
    const std::vector<float> x = random_floats(size_t{11} * shape.n_cols, 22);
    const std::vector<float> wanted = multiply(choose_kernels("ref")->set, matrix.weight(), x);
    for (const Kernels& set : kernel_sets()) {
      EXPECT_TRUE(same_bits(multiply(set, matrix.weight(), x), wanted))
          << set.name << " type " << static_cast<int>(shape.type) << " of " << shape.n_cols;
    }
  }
}

// The largest codes meet the largest inputs of one sign: no sum may overflow or saturate.
TEST(Matmul, ExtremeCodesAndInputsAddUpExactly) {
  for (const auto& shape : weight_shapes()) {
    if (shape.block == 0) continue;
    for (const int byte : {0, 0x7f, 0xff}) {
      SyntheticWeight matrix(shape, 23);
      matrix.flatten(byte);
      for (const float value : {32639.0f, -32639.0f, 1e30f, -1e-30f}) {
        const std::vector<float> x(size_t{9} * shape.n_cols, value);
        const std::vector<float> wanted = multiply(choose_kernels("ref")->set, matrix.weight(), x);
        for (const Kernels& set : kernel_sets()) {
          ASSERT_TRUE(same_bits(multiply(set, matrix.weight(), x), wanted))
              << set.name << " type " << static_cast<int>(shape.type) << " code " << byte;
        }
      }
    }
  }
}

TEST(Matmul, ARowIsBitwiseTheSameAloneAndInAnyCompany) {
  constexpr uint32_t kAll = 256;  // rows of a long prompt's batch
  for (const auto& shape : weight_shapes()) {
    const SyntheticWeight matrix(shape, 14);
    const std::vector<float> x = random_floats(size_t{kAll} * shape.n_cols, 15);
    for (const Kernels& set : kernel_sets()) {
      std::vector<float> alone;
      for (uint32_t m = 0; m < kAll; ++m) {
        const auto first = x.begin() + m * shape.n_cols;
        const auto y = multiply(set, matrix.weight(), {first, first + shape.n_cols});
        alone.insert(alone.end(), y.begin(), y.end());
      }
      for (const uint32_t n :
           {1u,  2u,  3u,  4u,  5u,  6u,  7u,  8u,  9u,  10u, 11u, 12u, 13u, 14u, 15u,
            16u, 17u, 24u, 31u, 32u, 33u, 45u, 47u, 48u, 49u, 63u, 64u, 65u, 70u, 256u}) {
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
    constexpr uint32_t kInputs = 20;
    const std::vector<float> x = random_floats(kInputs * 64, 17);
    const std::vector<float> whole = multiply(set, matrix.weight(), x);
    std::vector<float> part(whole.size(), 77.0f), scratch(matmul_scratch_floats(64));
    const ActivationBuffer buffer(kInputs, 64);
    const Activations in = buffer.of(x.data(), kInputs, 64);
    set.quantise(in, 0, kInputs);
    set.matmul(matrix.weight(), in, 16, 32, part.data(), scratch.data());
    set.matmul(matrix.weight(), in, 32, 32, part.data(), scratch.data());
    for (uint32_t i = 0; i < part.size(); ++i) {
      const bool inside = i % 40 >= 16 && i % 40 < 32;
      ASSERT_EQ(part[i], inside ? whole[i] : 77.0f) << set.name << " at " << i;
    }
  }
}

// x = scale * q within half a step, and the planes and sums are those of q.
void expect_quantised(const Activations& in, uint32_t m, uint32_t b) {
  const size_t at = size_t{m} * in.n_blocks + b;
  const BlockFacts& facts = in.facts[at];
  int sums[2] = {};
  for (uint32_t i = 0; i < kActivationBlock; ++i) {
    const int q = in.wide[at * 32 + i];
    const uint32_t c = b * 32 + i;
    const float x = c < in.n_cols ? in.x[size_t{m} * in.n_cols + c] : 0;
    ASSERT_LE(std::abs(q), 32639);
    ASSERT_EQ(256 * in.planes[at * 64 + i] + in.planes[at * 64 + 32 + i], q);
    ASSERT_LE(std::abs(facts.scale * static_cast<float>(q) - x), facts.scale / 2);
    sums[i / 16] += q;
  }
  const int all[3] = {sums[0] + sums[1], sums[0], sums[1]};
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(facts.zeros[i], -128 * all[i]);
    ASSERT_EQ(facts.sums[i], facts.scale * static_cast<float>(all[i]));
  }
}

std::vector<float> inputs_to_quantise(uint32_t n, uint32_t n_cols) {
  std::vector<float> x = random_floats(size_t{n} * n_cols, 24);
  const float sizes[] = {1, 1e-30f, 1e30f, 0, 1e-42f, 16384, 32639.5f / 32768};
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] *= sizes[i / n_cols % std::size(sizes)];
  }
  x[0] = 3.4e38f;
  x[1] = -2;
  return x;
}

TEST(Quantise, IsWithinHalfAStepForEverySize) {
  for (const uint32_t n_cols : {1u, 31u, 32u, 80u, 576u}) {
    const std::vector<float> x = inputs_to_quantise(7, n_cols + 1);
    for (const Kernels& set : kernel_sets()) {
      const ActivationBuffer buffer(7, n_cols + 1);
      const Activations in = buffer.of(x.data(), 7, n_cols + 1);
      set.quantise(in, 0, 7);
      for (uint32_t m = 0; m < 7; ++m) {
        for (uint32_t b = 0; b < in.n_blocks; ++b) expect_quantised(in, m, b);
      }
    }
  }
}

TEST(Quantise, GivesTheSameBitsInEverySet) {
  const std::vector<float> x = inputs_to_quantise(7, 80);
  const ActivationBuffer buffer(7, 80), other(7, 80);
  const Activations wanted = buffer.of(x.data(), 7, 80), in = other.of(x.data(), 7, 80);
  quantise_ref(wanted, 0, 7);
  for (const Kernels& set : kernel_sets()) {
    set.quantise(in, 0, 7);
    const size_t n = size_t{7} * in.n_blocks;
    EXPECT_EQ(std::memcmp(in.planes, wanted.planes, n * 64), 0) << set.name;
    EXPECT_EQ(std::memcmp(in.wide, wanted.wide, n * 64), 0) << set.name;
    EXPECT_EQ(std::memcmp(in.facts, wanted.facts, n * sizeof(BlockFacts)), 0) << set.name;
  }
}

// A step that went wrong must show, not turn into plausible numbers.
TEST(Quantise, NotANumberReachesTheResult) {
  const SyntheticWeight matrix({WeightType::w4, 5, 96, 32, 1}, 25);
  for (const float bad : {INFINITY, -INFINITY, NAN}) {
    std::vector<float> x = random_floats(96 * 9, 26);
    for (uint32_t m = 0; m < 9; ++m) x[m * 96 + 40] = bad;
    for (const Kernels& set : kernel_sets()) {
      for (const float y : multiply(set, matrix.weight(), x)) EXPECT_TRUE(std::isnan(y));
    }
  }
}

TEST(ChooseKernels, TakesTheFirstTrustedSetUnlessOneIsNamed) {
  ASSERT_FALSE(kernel_sets().empty());
  EXPECT_EQ(kernel_sets().back().name, "ref");
  EXPECT_EQ(choose_kernels()->set.name, kernel_sets().front().name);
  EXPECT_TRUE(choose_kernels()->refused.empty());
  for (const Kernels& set : kernel_sets()) {
    EXPECT_TRUE(reproduces_known_vectors(set)) << set.name;
    EXPECT_EQ(choose_kernels(set.name)->set.matmul, set.matmul);
  }
}

void expect_refused(const Result<KernelChoice>& chosen, const std::string& name) {
  ASSERT_FALSE(chosen);
  EXPECT_EQ(chosen.error().code, ErrorCode::usage);
  EXPECT_EQ(chosen.error().value, name);
  EXPECT_NE(chosen.error().message.find(name), std::string::npos);
  EXPECT_NE(chosen.error().limit.find("ref"), std::string::npos);
}

TEST(ChooseKernels, AnUnknownNameIsRefusedWithTheChoices) {
  expect_refused(choose_kernels("mmx"), "mmx");
}

// As on a CPU that has no more than the reference.
TEST(ChooseKernels, ASetThatTheCpuLacksIsRefusedByName) {
  expect_refused(choose_kernels("avx512", kernel_sets().last(1)), "avx512");
}

// Right but for one number.
void spoiled_matmul(const Weight& w, const Activations& x, uint32_t row_begin, uint32_t row_end,
                    float* y, float* scratch) {
  matmul_ref(w, x, row_begin, row_end, y, scratch);
  y[size_t{x.n - 1} * w.n_rows + row_end - 1] += 1;
}
void spoiled_swiglu(float* gate, const float* up, uint32_t n) {
  swiglu_ref(gate, up, n);
  gate[n - 1] += 1;
}
void spoiled_quantise(const Activations& x, uint32_t begin, uint32_t end) {
  quantise_ref(x, begin, end);
  x.wide[33] ^= 64;
}

TEST(ChooseKernels, ASetThatFailsItsSelfTestIsPassedOverAndNamed) {
  const Kernels sets[] = {{"no product", quantise_ref, spoiled_matmul, swiglu_ref, geglu_ref},
                          {"no SiLU", quantise_ref, matmul_ref, spoiled_swiglu, geglu_ref},
                          {"no GELU", quantise_ref, matmul_ref, swiglu_ref, spoiled_swiglu},
                          {"no integers", spoiled_quantise, matmul_ref, swiglu_ref, geglu_ref},
                          {"ref", quantise_ref, matmul_ref, swiglu_ref, geglu_ref}};
  const auto chosen = choose_kernels("", sets);
  ASSERT_TRUE(chosen);
  EXPECT_EQ(chosen->set.name, "ref");
  EXPECT_EQ(chosen->refused,
            (std::vector<std::string_view>{"no product", "no SiLU", "no GELU", "no integers"}));
  const auto forced = choose_kernels("no product", sets);
  expect_refused(forced, "no product");
  EXPECT_NE(forced.error().message.find("self-test"), std::string::npos);
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

}  // namespace
}  // namespace polykv
