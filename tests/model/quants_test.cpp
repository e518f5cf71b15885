// Every tensor type of a model file against an independent implementation's values
// (tests/scripts/make_quant_fixture.py), and what is refused of each.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "model/kernels.h"
#include "model/weight_layout.h"
#include "tests/model/packed.h"
#include "tests/model/tiny_model.h"

namespace polykv {
namespace {

using test::GgufWriter;
using test::mapped;
using test::pack;

constexpr const char* kUnderTest = "blk.0.ffn_down.weight";
constexpr uint32_t kRows = test::kTinyWidth, kColumns = 256;
constexpr uint32_t kTypes = 11;

struct Quants {
  GgufType type;
  std::vector<std::string> rows;  // as in a file
  std::vector<std::vector<float>> values;
};

template <class T>
T read(std::istream& file) {
  T value{};
  file.read(reinterpret_cast<char*>(&value), sizeof value);
  return value;
}

Quants read_type(std::istream& file, uint32_t n_rows, uint32_t n_columns) {
  Quants quants;
  quants.type = static_cast<GgufType>(read<uint32_t>(file));
  const auto bytes = read<uint32_t>(file) / n_rows;
  for (uint32_t i = 0; i < n_rows; ++i) {
    std::string row(bytes, 0);
    file.read(row.data(), bytes);
    quants.rows.push_back(row);
  }
  for (uint32_t i = 0; i < n_rows; ++i) {
    std::vector<float>& row = quants.values.emplace_back();
    for (uint32_t c = 0; c < n_columns; ++c) row.push_back(read<float>(file));
  }
  return quants;
}

std::vector<Quants> fixture() {
  std::ifstream file(POLYKV_SOURCE_DIR "/tests/fixtures/quants.bin", std::ios::binary);
  check(read<uint64_t>(file) == 0x31544e4155514b50, "quants.bin begins with PKQUANT1");
  const auto n_types = read<uint32_t>(file), n_rows = read<uint32_t>(file);
  check(read<uint32_t>(file) == kColumns, "quants.bin has rows of 256 columns");
  std::vector<Quants> all;
  for (uint32_t i = 0; i < n_types; ++i) all.push_back(read_type(file, n_rows, kColumns));
  check(static_cast<bool>(file), "quants.bin is whole");
  return all;
}

Quants quants_of(GgufType type) {
  for (Quants& quants : fixture()) {
    if (quants.type == type) return std::move(quants);
  }
  check(false, "quants.bin has every type");
  return {};
}

// The tiny model with one matrix of the fixture's rows, over and over.
GgufWriter model_with(const Quants& quants) {
  GgufWriter file = test::tiny_model();
  std::erase_if(file.tensors, [](const auto& tensor) { return tensor.name.contains("ffn_"); });
  file.u32("llama.feed_forward_length", kColumns);
  test::add_tensor(file, "blk.0.ffn_norm.weight", GgufType::f32, {64});
  test::add_tensor(file, "blk.0.ffn_gate.weight", GgufType::q4_1, {64, kColumns});
  test::add_tensor(file, "blk.0.ffn_up.weight", GgufType::q4_1, {64, kColumns});
  std::string data;
  for (uint32_t r = 0; r < kRows; ++r) data += quants.rows[r % quants.rows.size()];
  file.tensors.push_back({kUnderTest, static_cast<uint32_t>(quants.type), {kColumns, kRows}, data});
  return file;
}

bool is_k(GgufType type) {
  return type == GgufType::q4_k || type == GgufType::q5_k || type == GgufType::q6_k;
}

// How far a value may be from the reference's: 0 where the image holds the file's numbers exactly.
// Where w = d*q + m has rounded scales, each term is off by at most half an ulp of f16, 2^-11.
float tolerance(GgufType type, const Weight& w, uint32_t row, uint32_t column, float value) {
  if (type == GgufType::f32) return std::abs(value) / 256;  // bf16
  if (!is_k(type)) return 0;
  const uint16_t* scales = w.scales + scale_offset(w, row, column / w.block);
  const float m = w.has_min == 1 ? half_to_float(scales[kGroupRows]) : 0;
  return (std::abs(value - m) + std::abs(m)) * (1.001F / 2048) + 1e-9F;
}

class EveryType : public testing::TestWithParam<GgufType> {};

TEST_P(EveryType, DequantisesToWhatAnotherImplementationFinds) {
  const Quants quants = quants_of(GetParam());
  const ModelImage image = mapped(model_with(quants));
  const Weight& w = image.layer(0).w_down;
  ASSERT_EQ(w.n_cols, kColumns);
  ASSERT_EQ(w.n_rows, kRows);
  std::vector<float> row(w.n_cols);
  for (uint32_t r = 0; r < kRows; ++r) {
    dequantise_row(w, r, row.data());
    const std::vector<float>& wanted = quants.values[r % quants.values.size()];
    for (uint32_t c = 0; c < kColumns; ++c) {
      ASSERT_NEAR(row[c], wanted[c], tolerance(quants.type, w, r, c, wanted[c]))
          << gguf_type_name(quants.type) << " row " << r << " column " << c;
    }
  }
}

TEST_P(EveryType, SaysWhatTheImageDoesNotHoldExactly) {
  GgufWriter file = model_with(quants_of(GetParam()));
  test::WrittenTensor& other = file.tensor("blk.0.attn_output.weight");  // the tiny model's F32
  other.type = static_cast<uint32_t>(GgufType::f16);
  other.data = test::tensor_data(GgufType::f16, 64 * 64, 1);
  std::vector<std::string> notices;
  ASSERT_TRUE(pack(file, &notices));
  const bool inexact = is_k(GetParam()) || GetParam() == GgufType::f32;
  ASSERT_EQ(notices.size(), inexact ? 1U : 0U);
  if (!inexact) return;
  EXPECT_NE(notices[0].find(kUnderTest), std::string::npos) << notices[0];
  EXPECT_NE(notices[0].find(is_k(GetParam()) ? "f16" : "bf16"), std::string::npos) << notices[0];
}

INSTANTIATE_TEST_SUITE_P(, EveryType,
                         testing::Values(GgufType::f32, GgufType::f16, GgufType::bf16,
                                         GgufType::q4_0, GgufType::q4_1, GgufType::q5_0,
                                         GgufType::q5_1, GgufType::q8_0, GgufType::q4_k,
                                         GgufType::q5_k, GgufType::q6_k),
                         [](const auto& tested) {
                           return std::string(gguf_type_name(tested.param));
                         });

TEST(Quants, TheFixtureHasEveryTypeOnce) {
  const auto all = fixture();
  EXPECT_EQ(all.size(), kTypes);
  for (const Quants& quants : all) EXPECT_EQ(quants_of(quants.type).rows, quants.rows);
}

struct FormOfType {
  GgufType type;
  WeightType form;
  uint32_t block, has_min;
};

TEST(Quants, EachTypeTakesTheSmallestFormThatHoldsIt) {
  const FormOfType forms[] = {
      {GgufType::f32, WeightType::bf16, 0, 0},  {GgufType::f16, WeightType::f16, 0, 0},
      {GgufType::bf16, WeightType::bf16, 0, 0}, {GgufType::q4_0, WeightType::w4, 32, 1},
      {GgufType::q4_1, WeightType::w4, 32, 1},  {GgufType::q5_0, WeightType::w8, 32, 0},
      {GgufType::q5_1, WeightType::w8, 32, 1},  {GgufType::q8_0, WeightType::w8, 32, 0},
      {GgufType::q4_k, WeightType::w4, 32, 1},  {GgufType::q5_k, WeightType::w8, 32, 1},
      {GgufType::q6_k, WeightType::w8, 16, 0}};
  for (const FormOfType& form : forms) {
    const ModelImage image = mapped(model_with(quants_of(form.type)));
    const Weight& w = image.layer(0).w_down;
    EXPECT_EQ(w.type, form.form) << gguf_type_name(form.type);
    EXPECT_EQ(w.block, form.block) << gguf_type_name(form.type);
    EXPECT_EQ(w.has_min, form.has_min) << gguf_type_name(form.type);
  }
}

struct SpoiltScale {
  const char* name;
  GgufType type;
  size_t at;  // in the last block of the matrix
  uint16_t bits;
};

constexpr uint16_t kInfinity = 0x7c00, kNan = 0x7e00, kLargest = 0x7bff;

class SpoiltScales : public testing::TestWithParam<SpoiltScale> {};

TEST_P(SpoiltScales, AreRefusedByTheTensorsName) {
  GgufWriter file = model_with(quants_of(GetParam().type));
  ASSERT_TRUE(pack(file));
  const auto& type = *gguf_type_info(static_cast<uint32_t>(GetParam().type));
  std::string& data = file.tensor(kUnderTest).data;
  // A K block's scales of scales: all bits set, so that the largest d must overflow.
  if (is_k(GetParam().type)) {
    const size_t scales = GetParam().type == GgufType::q6_k ? 192 : 4;
    data.replace(data.size() - type.bytes + scales, 12, 12, '\x7f');
  }
  data.replace(data.size() - type.bytes + GetParam().at, 2, test::raw(GetParam().bits));
  const auto fd = pack(file);
  ASSERT_FALSE(fd);
  EXPECT_EQ(fd.error().code, ErrorCode::bad_model_file);
  for (const char* named : {kUnderTest, type.name, "out of range"}) {
    EXPECT_NE(fd.error().message.find(named), std::string::npos) << fd.error().message;
  }
}

constexpr SpoiltScale kSpoilt[] = {
    {"BF16Infinite", GgufType::bf16, 0, 0x7f80},
    {"BF16Nan", GgufType::bf16, 0, 0xffc0},
    {"Q5_0Infinite", GgufType::q5_0, 0, kInfinity},
    {"Q5_1Nan", GgufType::q5_1, 0, kNan},
    {"Q5_1Minimum", GgufType::q5_1, 2, kInfinity},
    {"Q4_KInfinite", GgufType::q4_k, 0, kInfinity},
    {"Q4_KMinimum", GgufType::q4_k, 2, kNan},
    {"Q4_KOverflow", GgufType::q4_k, 0, kLargest},
    {"Q4_KMinimumOverflow", GgufType::q4_k, 2, kLargest},
    {"Q5_KInfinite", GgufType::q5_k, 0, kInfinity},
    {"Q5_KMinimum", GgufType::q5_k, 2, kNan},
    {"Q5_KOverflow", GgufType::q5_k, 0, kLargest},
    {"Q6_KInfinite", GgufType::q6_k, 208, kInfinity},
    {"Q6_KNan", GgufType::q6_k, 208, kNan},
    {"Q6_KOverflow", GgufType::q6_k, 208, kLargest},
};

INSTANTIATE_TEST_SUITE_P(, SpoiltScales, testing::ValuesIn(kSpoilt),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST(Quants, AnInfiniteScaleTimesZeroIsRefusedToo) {
  GgufWriter file = model_with(quants_of(GgufType::q4_k));
  std::string& data = file.tensor(kUnderTest).data;
  data.replace(4, 12, 12, '\0');
  ASSERT_TRUE(pack(file));
  data.replace(0, 2, test::raw(kInfinity));
  const auto fd = pack(file);
  ASSERT_FALSE(fd);
  EXPECT_NE(fd.error().message.find(kUnderTest), std::string::npos);
}

TEST(Quants, ANormMayBeBf16AndIsWidenedExactly) {
  GgufWriter file = test::tiny_model();
  std::string data;
  for (uint16_t i = 0; i < 64; ++i) data += test::raw(static_cast<uint16_t>(0x3f80 + i));
  test::WrittenTensor& norm = file.tensor("output_norm.weight");
  norm.type = static_cast<uint32_t>(GgufType::bf16);
  norm.data = data;
  const ModelImage image = mapped(file);
  for (uint32_t i = 0; i < 64; ++i) {
    EXPECT_EQ(image.output_norm()[i], 1 + static_cast<float>(i) / 128);
  }
}

}  // namespace
}  // namespace polykv
