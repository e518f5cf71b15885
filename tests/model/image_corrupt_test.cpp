// Spoilt images: refused, or at least harmless to everything that reads them.
#include <gtest/gtest.h>

#include <random>

#include "model/image.h"
#include "model/token_tables.h"
#include "model/tokenizer.h"
#include "tests/model/raw_image.h"

namespace polykv {
namespace {

using test::RawImage;

testing::AssertionResult refused(const RawImage& raw, const std::string& named,
                                 bool verify = false) {
  const auto image = raw.map(verify);
  if (image) return testing::AssertionFailure() << "mapped";
  if (image.error().code != ErrorCode::bad_segment ||
      image.error().message.find(named) == std::string::npos) {
    return testing::AssertionFailure() << image.error().message;
  }
  return testing::AssertionSuccess();
}

TEST(ImageCorrupt, UnspoiltImageMaps) {
  RawImage raw;
  EXPECT_TRUE(raw.map(true));
  raw.reseal();
  EXPECT_TRUE(raw.map(true)) << "resealing changes nothing";
}

TEST(ImageCorrupt, EveryFlippedBitOfTheHeaderIsRefused) {
  const RawImage whole;
  for (size_t bit = 0; bit < sizeof(ImageHeader) * 8; ++bit) {
    RawImage raw = whole;
    raw.bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    ASSERT_TRUE(refused(raw, "")) << "bit " << bit;
  }
}

TEST(ImageCorrupt, EveryFlippedByteOfTheTablesIsRefused) {
  const RawImage whole;
  for (size_t at = sizeof(ImageHeader); at < whole.header().weights_begin; ++at) {
    RawImage raw = whole;
    raw.bytes[at] ^= static_cast<std::byte>(1 << at % 8);
    ASSERT_TRUE(refused(raw, "checksum")) << "byte " << at;
  }
}

TEST(ImageCorrupt, FlippedWeightIsFoundWhenAsked) {
  RawImage raw;
  raw.bytes[raw.header().weights_begin + 100] ^= std::byte{1};
  EXPECT_TRUE(raw.map(false));
  EXPECT_TRUE(refused(raw, "fingerprint", true));
}

TEST(ImageCorrupt, EveryTruncationIsRefused) {
  const RawImage whole;
  for (size_t size = 1; size < whole.bytes.size(); size += size < 2048 ? 1 : 97) {
    RawImage raw = whole;
    raw.bytes.resize(size);
    ASSERT_TRUE(refused(raw, "")) << size << " bytes";
  }
}

struct Spoil {
  const char* name;
  void (*spoil)(RawImage&);
  const char* named;
};

uint64_t tensor_field(const RawImage& raw, size_t tensor, size_t field) {
  return raw.section(ImageSection::tensors).offset + tensor * sizeof(TensorEntry) + field;
}
template <class T>
void put_in(RawImage& raw, ImageSection section, size_t at, T value) {
  raw.put(raw.section(section).offset + at, value);
}
template <class T>
void put_config(RawImage& raw, size_t field, T value) {
  raw.put(offsetof(ImageHeader, config) + field, value);
}
void put_section(RawImage& raw, ImageSection section, SectionRange range) {
  raw.put(offsetof(ImageHeader, sections) + static_cast<size_t>(section) * sizeof range, range);
}

const Spoil kSpoils[] = {
    {"HeadDim", [](RawImage& r) { put_config(r, offsetof(ModelConfig, head_dim), uint32_t{96}); },
     "head_dim is 96"},
    {"Layers", [](RawImage& r) { put_config(r, offsetof(ModelConfig, n_layers), uint32_t{2}); },
     "number of tensors"},
    {"Vocabulary", [](RawImage& r) { put_config(r, offsetof(ModelConfig, n_vocab), uint32_t{15}); },
     "tensor embedding"},
    {"Abi", [](RawImage& r) { r.put(offsetof(ImageHeader, abi), uint32_t{99}); }, "version is 99"},
    {"Bos", [](RawImage& r) { r.put(offsetof(ImageHeader, bos), uint32_t{16}); }, "16"},
    {"Ends", [](RawImage& r) { r.put(offsetof(ImageHeader, n_ends), uint32_t{9}); },
     "end tokens is 9"},
    {"End",
     [](RawImage& r) {
       r.put(offsetof(ImageHeader, n_ends), uint32_t{1});
       r.put(offsetof(ImageHeader, ends), uint32_t{16});
     },
     "special token 16"},
    {"Sampling", [](RawImage& r) { r.put(offsetof(ImageHeader, sampling), -1.0F); },
     "temperature is -1"},
    {"PreTokenizer", [](RawImage& r) { r.put(offsetof(ImageHeader, pre_tokenizer), uint32_t{9}); },
     "pre-tokenizer is 9"},
    {"WeightsBeginPastTheEnd",
     [](RawImage& r) { r.put(offsetof(ImageHeader, weights_begin), uint64_t{1} << 40); },
     "1099511627776"},
    {"SectionOutside",
     [](RawImage& r) { put_section(r, ImageSection::merges, {uint64_t{1} << 50, 12}); },
     "section 7"},
    {"SectionOverflows",
     [](RawImage& r) { put_section(r, ImageSection::kinds, {1024, UINT64_MAX - 100}); },
     "section 4"},
    {"SectionNotAligned",
     [](RawImage& r) {
       const auto range = r.section(ImageSection::texts);
       put_section(r, ImageSection::texts, {range.offset + 1, range.bytes - 1});
     },
     "section 3"},
    {"OffsetsDescend", [](RawImage& r) { put_in(r, ImageSection::text_offsets, 8, uint32_t{3}); },
     "no text"},
    {"LastOffsetPastTheTexts",
     [](RawImage& r) { put_in(r, ImageSection::text_offsets, 64, uint32_t{1000000}); },
     "last token's end"},
    {"KindUnknown", [](RawImage& r) { put_in(r, ImageSection::kinds, 5, uint8_t{2}); }, "kind 2"},
    {"TokenSlotPastTheEnd",
     [](RawImage& r) { put_in(r, ImageSection::text_slots, 0, uint32_t{17}); }, "entry 17 of 16"},
    {"MergeSlotPastTheEnd",
     [](RawImage& r) { put_in(r, ImageSection::merge_slots, 0, uint32_t{6}); }, "entry 6 of 5"},
    {"NoEmptySlot",
     [](RawImage& r) {
       for (size_t i = 0; i < r.section(ImageSection::text_slots).bytes; i += 4) {
         put_in(r, ImageSection::text_slots, i, uint32_t{1});
       }
     },
     "no empty slot"},
    {"MergePastTheVocabulary",
     [](RawImage& r) { put_in(r, ImageSection::merges, 8, uint32_t{16}); }, "token 16 of 16"},
    {"MergeIntoASpecialToken", [](RawImage& r) { put_in(r, ImageSection::merges, 8, uint32_t{1}); },
     "merge 0 names token 1 of the kind 3"},
    {"MergeOfASpecialToken", [](RawImage& r) { put_in(r, ImageSection::merges, 12, uint32_t{2}); },
     "merge 1 names token 2 of the kind 3"},
    {"MergeIntoAByte", [](RawImage& r) { put_in(r, ImageSection::kinds, 9, kKindByte); },
     "merge 0 names token 9 of the kind 6"},
    {"HeaderReservedFirst",
     [](RawImage& r) { r.put(offsetof(ImageHeader, reserved0), uint8_t{1}); }, "reserved"},
    {"HeaderReservedLast", [](RawImage& r) { r.put(sizeof(ImageHeader) - 1, uint8_t{1}); },
     "reserved"},
    {"TensorReserved", [](RawImage& r) { r.put(tensor_field(r, 0, 56), uint64_t{1}); }, "reserved"},
    {"TensorRole", [](RawImage& r) { r.put(tensor_field(r, 0, 0), uint16_t{2}); },
     "another tensor"},
    {"TensorRows", [](RawImage& r) { r.put(tensor_field(r, 2, 8), uint32_t{128}); }, "shape"},
    {"TensorType", [](RawImage& r) { r.put(tensor_field(r, 2, 4), uint32_t{6}); }, "unknown form"},
    {"MatrixAsF32",
     [](RawImage& r) {
       r.put(tensor_field(r, 0, 4), uint32_t{1});
       r.put(tensor_field(r, 0, 16), uint32_t{0});
     },
     "unknown form"},
    {"BlockZero", [](RawImage& r) { r.put(tensor_field(r, 0, 16), uint32_t{0}); }, "unknown form"},
    {"MinimumWithoutScales", [](RawImage& r) { r.put(tensor_field(r, 0, 20), uint32_t{1}); },
     "scales"},
    {"ValuesOutside", [](RawImage& r) { r.put(tensor_field(r, 0, 24), uint64_t{1} << 33); },
     "values"},
    {"ValuesInTheTables", [](RawImage& r) { r.put(tensor_field(r, 0, 24), uint64_t{512}); },
     "values"},
    {"ValuesNotAligned",
     [](RawImage& r) { r.put(tensor_field(r, 0, 24), r.header().weights_begin + 1); }, "values"},
    {"ScalesOutside", [](RawImage& r) { r.put(tensor_field(r, 0, 40), uint64_t{r.bytes.size()}); },
     "scales"},
    {"ChatFormat", [](RawImage& r) { put_in(r, ImageSection::chat_format, 0, 'x'); },
     "chat format"},
    {"NameNotUtf8", [](RawImage& r) { put_in(r, ImageSection::name, 0, uint8_t{0xff}); }, "name"},
};

class ImageSpoilt : public testing::TestWithParam<Spoil> {};

TEST_P(ImageSpoilt, WithRightChecksumsIsRefusedByName) {
  RawImage raw;
  GetParam().spoil(raw);
  raw.reseal();
  EXPECT_TRUE(refused(raw, GetParam().named));
}

INSTANTIATE_TEST_SUITE_P(, ImageSpoilt, testing::ValuesIn(kSpoils),
                         [](const auto& tested) { return std::string(tested.param.name); });

// Reads all that an agent would.
unsigned use(const ModelImage& image) {
  unsigned sum = 0;
  const auto add = [&](const Weight& w) {
    for (size_t i = 0; i < size_t{w.n_rows} * w.n_cols / 2; ++i) {
      sum += static_cast<unsigned>(w.values[i]);
    }
    if (w.scales != nullptr) sum += w.scales[size_t{w.n_rows} * w.n_cols / w.block - 1];
  };
  add(image.embedding());
  const LayerWeights& layer = image.layer(0);
  for (const Weight* w : {&layer.wq, &layer.wk, &layer.wv, &layer.wo, &layer.w_gate}) add(*w);
  sum += static_cast<unsigned>(layer.ffn_norm[63] + image.output_norm()[63]);
  auto tokenizer = Tokenizer::create(image);
  check(tokenizer.has_value(), "the tokenizer is created");
  const auto tokens = tokenizer->encode("abcd ab x! cdab\n");
  if (tokens) sum += static_cast<unsigned>(tokenizer->decode(*tokens).size());
  EXPECT_TRUE(!tokens || std::ranges::none_of(*tokens, [&](uint32_t token) {
    return tokenizer->is_special(token);
  })) << "plain text makes no special token";
  sum += tokenizer->special_token("<|im_end|>").value_or(0);
  for (uint32_t i = 0; i < image.config().n_vocab + 2; ++i) {
    sum += static_cast<unsigned>(tokenizer->bytes_of(i).size());
  }
  return sum;
}

TEST(ImageCorrupt, RandomDamageWithRightChecksumsIsRefusedOrHarmless) {
  const RawImage whole;
  constexpr unsigned kSeed = 20240607;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  std::mt19937 random(kSeed);
  size_t n_mapped = 0, n_refused = 0;
  unsigned sum = 0;
  for (int i = 0; i < 3000; ++i) {
    RawImage raw = whole;
    for (auto n = 1 + random() % 3; n > 0; --n) {
      raw.bytes[64 + random() % (whole.header().weights_begin - 64)] ^=
          static_cast<std::byte>(1 << random() % 8);
    }
    raw.reseal();
    const auto image = raw.map();
    (image ? n_mapped : n_refused)++;
    if (image) sum += use(*image);
  }
  EXPECT_GT(n_mapped, 0U) << sum;
  EXPECT_GT(n_refused, 0U);
}

// Not refused (model/image_map.cpp says why): then it may do no more than the texts could.
TEST(ImageCorrupt, AForgedMergeMakesOtherTokensOfATextAndNeverMoreOrSpecialOnes) {
  const std::string text = "abcd ab x! cdab";
  for (uint32_t token = 0; token < 16; ++token) {
    RawImage raw;
    put_in(raw, ImageSection::merges, 8, token);
    raw.reseal();
    const auto image = raw.map();
    if (!image) continue;  // no token of plain text
    const auto tokens = Tokenizer::create(*image)->encode(text);
    ASSERT_TRUE(tokens);
    EXPECT_LE(tokens->size(), text.size());
    use(*image);
  }
}

}  // namespace
}  // namespace polykv
