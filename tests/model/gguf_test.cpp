// The GGUF reader against right, wrong and hostile files.
#include "model/gguf.h"

#include <gtest/gtest.h>

#include "tests/model/temp_file.h"
#include "tests/model/tiny_model.h"

namespace polykv {
namespace {

using test::GgufWriter;
using test::raw;
using test::raw_array;

// A copy of exactly the right size, so that a sanitizer sees every read past its end.
Result<GgufContents> parse(const std::string& bytes) {
  const std::vector<char> exact(bytes.begin(), bytes.end());
  return parse_gguf(std::as_bytes(std::span(exact)), "test.gguf");
}

GgufWriter one_tensor() {
  GgufWriter file;
  file.text("general.architecture", "llama");
  file.u32("answer", 42);
  test::add_tensor(file, "first", GgufType::f32, {8});
  test::add_tensor(file, "second", GgufType::q4_0, {32, 2});
  return file;
}

TEST(Gguf, WhatWasWrittenIsReadBack) {
  GgufWriter file = one_tensor();
  file.texts("names", {"x", "", "yz"});
  file.i32s("numbers", {-1, 7});
  file.flag("yes", 1);
  file.f32("ratio", 0.5F);
  const test::TempFile on_disk(file.bytes());
  auto read = GgufFile::open(on_disk.path());
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read->text("general.architecture"), "llama");
  EXPECT_EQ(*read->integer("answer"), 42U);
  EXPECT_EQ(*read->texts("names"), (std::vector<std::string_view>{"x", "", "yz"}));
  EXPECT_EQ(*read->integers("numbers"), (std::vector<int64_t>{-1, 7}));
  EXPECT_TRUE(*read->flag("yes"));
  EXPECT_EQ(*read->number("ratio"), 0.5);
  const FileTensor* second = read->tensor("second");
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(second->shape, (std::array<uint64_t, 4>{32, 2, 1, 1}));
  EXPECT_EQ(std::memcmp(second->data.data(), file.tensors[1].data.data(), 36), 0);
  EXPECT_EQ(read->tensor("third"), nullptr);
}

TEST(Gguf, VersionTwoIsReadToo) {
  GgufWriter file = one_tensor();
  file.version = 2;
  EXPECT_TRUE(parse(file.bytes()));
}

TEST(Gguf, NestedArraysAreSkippedUpToTheLimit) {
  GgufWriter file = one_tensor();
  std::string nested = raw_array(GgufKind::u8, 2, "ab");
  for (int depth = 1; depth < 4; ++depth) nested = raw_array(GgufKind::array, 1, nested);
  file.set("nested", GgufKind::array, nested);
  EXPECT_TRUE(parse(file.bytes()));
}

TEST(Gguf, TruncationAtEveryByteIsABadModelFile) {
  const std::string whole = test::tiny_model().bytes();
  ASSERT_TRUE(parse(whole));
  for (size_t size = 0; size < whole.size(); ++size) {
    const auto read = parse(whole.substr(0, size));
    ASSERT_FALSE(read) << "of " << size << " bytes";
    ASSERT_EQ(read.error().code, ErrorCode::bad_model_file) << read.error().message;
    ASSERT_NE(read.error().message.find("test.gguf"), std::string::npos);
  }
}

TEST(Gguf, FlippedBitsInTheStructureAreRefusedOrHarmless) {
  const std::string whole = one_tensor().bytes();
  for (size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string flipped = whole;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    const std::vector<char> exact(flipped.begin(), flipped.end());
    const auto read = parse_gguf(std::as_bytes(std::span(exact)), "test.gguf");
    if (!read) continue;
    unsigned sum = 0;
    for (const FileTensor& tensor : read->tensors) {
      for (const std::byte byte : tensor.data) sum += static_cast<unsigned>(byte);
    }
    EXPECT_GE(sum, 0U);
  }
}

struct Absurd {
  const char* name;
  void (*spoil)(GgufWriter&);
  ErrorCode code;
  const char* named;  // what the message must name
};

constexpr auto kBad = ErrorCode::bad_model_file;
constexpr auto kUnsupported = ErrorCode::unsupported_model;
constexpr uint64_t kHuge = uint64_t{1} << 63;

const Absurd kAbsurd[] = {
    {"WrongMagic", [](GgufWriter& f) { f.magic = 0x12345678; }, kBad, "GGUF"},
    {"VersionOne", [](GgufWriter& f) { f.version = 1; }, kUnsupported, "version 1"},
    {"VersionFour", [](GgufWriter& f) { f.version = 4; }, kUnsupported, "version 4"},
    {"HugeTensorCount", [](GgufWriter& f) { f.n_tensors = kHuge; }, kBad, "9223372036854775808"},
    {"TensorCountPastTheFile", [](GgufWriter& f) { f.n_tensors = 1000; }, kBad, "1000"},
    {"HugeKeyCount", [](GgufWriter& f) { f.n_entries = UINT64_MAX; }, kBad, "18446744073709551615"},
    {"UnknownMetadataType", [](GgufWriter& f) { f.entries[0].kind = 13; }, kBad, "type 13"},
    {"HugeText", [](GgufWriter& f) { f.set("k", GgufKind::text, raw(UINT64_MAX)); }, kBad,
     "18446744073709551615"},
    {"HugeKey", [](GgufWriter& f) { f.u32(std::string(70000, 'k'), 1); }, kBad, "70000"},
    {"HugeArray",
     [](GgufWriter& f) { f.set("k", GgufKind::array, raw_array(GgufKind::u64, kHuge / 4, "")); },
     kBad, "2305843009213693952"},
    {"HugeArrayOfTexts",
     [](GgufWriter& f) { f.set("k", GgufKind::array, raw_array(GgufKind::text, kHuge, "")); }, kBad,
     "9223372036854775808"},
    {"ArrayOfUnknownType",
     [](GgufWriter& f) {
       f.set("k", GgufKind::array, raw_array(static_cast<GgufKind>(77), 1, ""));
     },
     kBad, "type 77"},
    {"ArraysNestedTooDeep",
     [](GgufWriter& f) {
       std::string nested = raw_array(GgufKind::u8, 0, "");
       for (int i = 0; i < 4; ++i) nested = raw_array(GgufKind::array, 1, nested);
       f.set("deep", GgufKind::array, nested);
     },
     kBad, "deep"},
    {"KeyTwice", [](GgufWriter& f) { f.entries.push_back(f.entries[0]); }, kBad,
     "general.architecture"},
    {"AlignmentZero", [](GgufWriter& f) { f.u32("general.alignment", 0); }, kBad, "alignment is 0"},
    {"AlignmentThree", [](GgufWriter& f) { f.u32("general.alignment", 3); }, kBad,
     "alignment is 3"},
    {"AlignmentHuge", [](GgufWriter& f) { f.u32("general.alignment", 1U << 31); }, kBad,
     "2147483648"},
    {"AlignmentOfAnotherKind", [](GgufWriter& f) { f.text("general.alignment", "32"); }, kBad,
     "general.alignment"},
    {"NoDimensions", [](GgufWriter& f) { f.tensors[0].shape = {}; }, kBad, "0 dimensions"},
    {"FiveDimensions", [](GgufWriter& f) { f.tensors[0].shape = {1, 1, 1, 1, 1}; }, kBad,
     "5 dimensions"},
    {"DimensionZero", [](GgufWriter& f) { f.tensors[0].shape = {8, 0}; }, kBad, "[8, 0]"},
    {"ProductOverflows", [](GgufWriter& f) { f.tensors[0].shape = {kHuge, 4}; }, kBad,
     "[9223372036854775808, 4]"},
    {"ProductOverflowsToLittle",
     [](GgufWriter& f) { f.tensors[0].shape = {1ULL << 32, 1ULL << 32, 8}; }, kBad, "4294967296"},
    {"RowSplitsABlock", [](GgufWriter& f) { f.tensors[1].shape = {31, 2}; }, kBad, "[31, 2]"},
    {"LargerThanTheFile", [](GgufWriter& f) { f.tensors[1].shape = {32, 1U << 30}; }, kBad,
     "second"},
    {"OffsetPastTheFile", [](GgufWriter& f) { f.tensors[1].offset = 1U << 30; }, kBad,
     "1073741824"},
    {"OffsetOverflows", [](GgufWriter& f) { f.tensors[1].offset = UINT64_MAX - 31; }, kBad,
     "18446744073709551584"},
    {"OffsetNotAligned", [](GgufWriter& f) { f.tensors[1].offset = 33; }, kBad, "33"},
    {"TensorsOverlap", [](GgufWriter& f) { f.tensors[1].offset = 0; }, kBad, "overlap"},
    {"TensorTwice", [](GgufWriter& f) { f.tensors[1].name = "first"; }, kBad, "first"},
    {"LongTensorName", [](GgufWriter& f) { f.tensors[1].name = std::string(300, 'n'); }, kBad,
     "300"},
    {"TensorTypeQ2K", [](GgufWriter& f) { f.tensors[0].type = 10; }, kUnsupported, "Q2_K"},
    {"TensorTypeIq4Xs", [](GgufWriter& f) { f.tensors[0].type = 23; }, kUnsupported, "IQ4_XS"},
    {"TensorTypeSaysWhatIsSupported", [](GgufWriter& f) { f.tensors[0].type = 9; }, kUnsupported,
     "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K:"},
    {"RowSplitsASuperBlock",
     [](GgufWriter& f) {
       f.tensors[1].type = 12;
       f.tensors[1].shape = {128, 2};
     },
     kBad, "[128, 2] for Q4_K"},
    {"TensorTypeUnknown", [](GgufWriter& f) { f.tensors[0].type = 99; }, kBad, "type 99"},
};

class GgufAbsurd : public testing::TestWithParam<Absurd> {};

TEST_P(GgufAbsurd, IsRefusedByName) {
  GgufWriter file = one_tensor();
  ASSERT_TRUE(parse(file.bytes()));
  GetParam().spoil(file);
  const auto read = parse(file.bytes());
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, GetParam().code) << read.error().message;
  EXPECT_NE(read.error().message.find(GetParam().named), std::string::npos) << read.error().message;
}

INSTANTIATE_TEST_SUITE_P(, GgufAbsurd, testing::ValuesIn(kAbsurd),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST(Gguf, AccessToAMissingOrOtherKindOfKeyNamesIt) {
  const test::TempFile on_disk(one_tensor().bytes());
  auto file = GgufFile::open(on_disk.path());
  ASSERT_TRUE(file);
  const auto names = [](const auto& result, const char* what) {
    return !result && result.error().code == kBad &&
           result.error().message.find(what) != std::string::npos;
  };
  EXPECT_TRUE(names(file->text("nothing"), "nothing"));
  EXPECT_TRUE(names(file->text("answer"), "answer"));
  EXPECT_TRUE(names(file->integer("general.architecture"), "general.architecture"));
  EXPECT_TRUE(names(file->number("general.architecture"), "text"));
  EXPECT_TRUE(names(file->flag("answer"), "answer"));
  EXPECT_TRUE(names(file->texts("answer"), "answer"));
  EXPECT_TRUE(names(file->integers("answer"), "answer"));
}

TEST(Gguf, MissingEmptyAndIrregularFilesAreRefusedByName) {
  for (const std::string path : {"/nowhere/model.gguf", "/tmp", "/dev/null"}) {
    const auto file = GgufFile::open(path);
    ASSERT_FALSE(file) << path;
    EXPECT_EQ(file.error().code, kBad);
    EXPECT_NE(file.error().message.find(path), std::string::npos);
  }
  const test::TempFile empty("");
  const auto file = GgufFile::open(empty.path());
  ASSERT_FALSE(file);
  EXPECT_NE(file.error().message.find("empty"), std::string::npos);
}

TEST(Gguf, NamesFromTheFileAreMadePrintable) {
  EXPECT_EQ(printable("a\nb\xff\""), "\"a\\x0ab\\xff\\x22\"");
  EXPECT_LT(printable(std::string(1000, 'x')).size(), 100U);
}

}  // namespace
}  // namespace polykv
