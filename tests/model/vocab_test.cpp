// Each kind of tokenizer, with a small vocabulary, against the reference's tokens
// (tests/scripts/make_vocab_fixture.py).
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "model/hub_vocab.h"
#include "model/image_vocab.h"
#include "model/token_tables.h"
#include "model/tokenizer.h"
#include "tests/model/temp_file.h"
#include "tests/model/vocab_fixture.h"

namespace polykv {
namespace {

using FixtureJson = nlohmann::json;
using Tokens = std::vector<uint32_t>;

FixtureJson read_fixture(const std::string& name) {
  std::ifstream file(POLYKV_SOURCE_DIR "/tests/fixtures/vocab_" + name + ".json");
  return FixtureJson::parse(file);
}

test::GgufWriter file_of(const FixtureJson& vocab) {
  test::GgufWriter file;
  test::put_vocab(file, vocab);
  if (vocab.contains("add_space_prefix")) {
    file.flag("tokenizer.ggml.add_space_prefix", vocab["add_space_prefix"].get<bool>() ? 1 : 0);
  }
  return file;
}

Result<VocabTables> read_vocab(const test::GgufWriter& written) {
  const test::TempFile on_disk(written.bytes());
  auto file = GgufFile::open(on_disk.path());
  if (!file) return pass(file);
  auto said = read_gguf_vocab(*file);
  if (!said) return pass(said);
  return build_vocab(*said);
}

// A vocabulary and the tokenizer that looks into it.
struct Made {
  std::unique_ptr<VocabTables> vocab;
  std::unique_ptr<TokenizerTables> tables;
  std::unique_ptr<Tokenizer> tokenizer;

  explicit Made(const test::GgufWriter& file) {
    auto read = read_vocab(file);
    check(read.has_value(), read ? "" : read.error().message.c_str());
    vocab = std::make_unique<VocabTables>(std::move(*read));
    tables = std::make_unique<TokenizerTables>(vocab->view());
    tokenizer = std::make_unique<Tokenizer>(std::move(*Tokenizer::create(*tables)));
  }
  explicit Made(const std::string& name) : Made(file_of(read_fixture(name))) {}
  Tokens encode(std::string_view text) const { return *tokenizer->encode(text); }
  Tokens encode(const std::vector<TextPiece>& pieces) const { return *tokenizer->encode(pieces); }
  uint32_t id(std::string_view text, TokenClass wanted = TokenClass::plain) const {
    return find_token(*tables, text, wanted).value();
  }
};

class EachVocabulary : public testing::TestWithParam<const char*> {};

TEST_P(EachVocabulary, HasTheReferencesTokensAndTextsComeBack) {
  const Made made(GetParam());
  const FixtureJson samples = read_fixture(GetParam())["samples"];
  EXPECT_GE(samples.size(), 300U);
  for (const FixtureJson& sample : samples) {
    const std::string text = sample[0];
    const Tokens tokens = made.encode(text);
    EXPECT_EQ(tokens, sample[1].get<Tokens>()) << sample[0];
    const std::string back = sample.size() > 2 ? sample[2] : sample[0];
    EXPECT_EQ(made.tokenizer->decode(tokens), back) << sample[0];
  }
}

INSTANTIATE_TEST_SUITE_P(, EachVocabulary,
                         testing::Values("gpt2", "llamabpe", "qwen2", "sentencepiece", "gemma"));

class EachKind : public testing::TestWithParam<const char*> {};

TEST_P(EachKind, SpecialNamesInTextStayTextAndTokensOfTheMakerAreFound) {
  const Made made(GetParam());
  const Tokens tokens = made.encode("a</s>b<think>c");
  EXPECT_EQ(std::ranges::count(tokens, made.id("</s>", TokenClass::special)), 0);
  EXPECT_EQ(std::ranges::count(tokens, made.id("<think>")), 1);
  EXPECT_EQ(made.encode("<think>"), (Tokens{made.id("<think>")})) << "the longest one";
  EXPECT_EQ(made.encode("<think"), (Tokens{made.id("<think")}));
}

INSTANTIATE_TEST_SUITE_P(, EachKind,
                         testing::Values("gpt2", "llamabpe", "qwen2", "tekken", "sentencepiece"));

TEST(SentencePiece, ASpaceIsPutBeforeEachRunOfText) {
  const Made made("sentencepiece");
  const uint32_t border = made.id("</s>", TokenClass::special);
  const Tokens joined = made.encode({{"the"}, {"</s>", true}, {"the"}});
  const Tokens alone = made.encode("the");
  EXPECT_EQ(made.vocab->view().flags, kAddBos | kSpacePrefix);
  EXPECT_EQ(made.tokenizer->bytes_of(alone[0]).front(), ' ');
  Tokens expected = alone;
  expected.push_back(border);
  expected.insert(expected.end(), alone.begin(), alone.end());
  EXPECT_EQ(joined, expected);
  EXPECT_EQ(made.encode(""), Tokens{}) << "nothing is nothing";
}

TEST(SentencePiece, NoSpaceIsPutWhereTheFileSaysSo) {
  auto file = file_of(read_fixture("sentencepiece"));
  file.flag("tokenizer.ggml.add_space_prefix", 0);
  const Made made(file);
  EXPECT_EQ(made.tokenizer->bytes_of(made.encode("the")[0]).front(), 't');
  EXPECT_EQ(made.tokenizer->decode(made.encode(" the")), " the");
}

TEST(SentencePiece, TheMarkOfASpaceIsASpace) {
  const Made made("sentencepiece");
  EXPECT_EQ(made.encode("a\u2581b"), made.encode("a b"));
}

// As a run of plain text they would lose the one that encoding puts before it.
TEST(Tokenizer, SpacesThatAreATokenOfTheMakerKeepTheirNumber) {
  const std::string spaces(7, ' ');
  for (const char* name : {"gpt2", "sentencepiece"}) {
    FixtureJson vocab = read_fixture(name);
    vocab["tokens"].push_back(spaces);
    vocab["token_type"].push_back(kKindUser);
    if (vocab.contains("scores")) vocab["scores"].push_back(0);
    const Made made(file_of(vocab));
    const uint32_t token = made.id(spaces);
    EXPECT_EQ(made.encode(spaces), Tokens{token}) << name;
    EXPECT_EQ(made.tokenizer->first_bytes_of(token), spaces) << name;
    for (const std::string& text : {spaces, spaces + spaces, spaces + " a", "a" + spaces + "b"}) {
      EXPECT_EQ(std::ranges::count(made.encode(text), token), text.size() / spaces.size()) << text;
      EXPECT_EQ(made.tokenizer->decode(made.encode(text)), text) << name;
    }
  }
}

TEST(SentencePiece, ATokenOverTheBorderOfWordsIsFound) {
  FixtureJson vocab = read_fixture("sentencepiece");
  vocab["tokens"].push_back("b\u2581");
  vocab["token_type"].push_back(1);
  vocab["scores"].push_back(1.0);
  const Made made(file_of(vocab));
  const Tokens tokens = made.encode("b b");
  EXPECT_EQ(std::ranges::count(tokens, made.id("b ")), 1);
}

TEST(Tokenizer, PlainPiecesSideBySideAreOneText) {
  const Made made("gpt2");
  EXPECT_EQ(made.encode({{"th"}, {"e "}, {"program"}}), made.encode("the program"));
}

// tokenizer.json as Llama 2's is: the same vocabulary in the other format.
FixtureJson hub_form(const FixtureJson& vocab, const FileVocab& said) {
  FixtureJson words, added = FixtureJson::array(), merges = FixtureJson::array();
  for (size_t i = 0; i < said.tokens.size(); ++i) {
    if (said.kinds[i] != kKindUser) words[std::string(said.tokens[i])] = i;
    if (said.kinds[i] == kKindNormal || said.kinds[i] == kKindByte) continue;
    added.push_back(
        {{"id", i}, {"content", vocab["tokens"][i]}, {"special", said.kinds[i] == kKindSpecial}});
  }
  for (const auto& merge : said.merges) merges.push_back(cat(merge.left, ' ', merge.right));
  const FixtureJson spaces = {
      {"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}};
  const FixtureJson prefix = {{"type", "Prepend"}, {"prepend", "\u2581"}};
  const FixtureJson model = {
      {"type", "BPE"}, {"byte_fallback", true}, {"vocab", words}, {"merges", merges}};
  return {{"added_tokens", added},
          {"normalizer", {{"type", "Sequence"}, {"normalizers", {prefix, spaces}}}},
          {"post_processor",
           {{"type", "TemplateProcessing"},
            {"single", {{{"SpecialToken", {{"id", "<s>"}}}}, {{"Sequence", {{"id", "A"}}}}}}}},
          {"model", model}};
}

TEST(HubVocab, SentencePieceReadsAsFromGguf) {
  const FixtureJson fixture = read_fixture("sentencepiece");
  const test::TempFile on_disk(file_of(fixture).bytes());
  const auto file = GgufFile::open(on_disk.path());
  const auto said = read_gguf_vocab(*file);
  const auto json = Json::parse(hub_form(fixture, *said).dump(), "here");
  ASSERT_TRUE(json) << json.error().message;
  const auto n_tokens = static_cast<uint32_t>(said->tokens.size());
  const auto read = read_hub_vocab(*json, n_tokens, "here");
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->vocab.pre_tokenizer, PreTokenizer::sentencepiece);
  EXPECT_EQ(read->vocab.flags, kSpacePrefix | kAddBos);
  const auto vocab = build_vocab(read->vocab);
  ASSERT_TRUE(vocab) << vocab.error().message;
  const TokenizerTables tables = vocab->view();
  const auto tokenizer = Tokenizer::create(tables);
  for (const FixtureJson& sample : fixture["samples"]) {
    EXPECT_EQ(*tokenizer->encode(sample[0].get<std::string>()), sample[1].get<Tokens>());
  }
}

// As Mistral's newer models have it.
constexpr const char* kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N})"
    R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

FixtureJson split_by(const char* regex) {
  const FixtureJson split = {{"type", "Split"},
                             {"pattern", {{"Regex", regex}}},
                             {"behavior", "Isolated"},
                             {"invert", false}};
  const FixtureJson bytes = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  return {{"type", "Sequence"}, {"pretokenizers", {split, bytes}}};
}

TEST(HubVocab, TekkenIsKnownByItsPatternAndNfcByItsName) {
  const FixtureJson model = {{"type", "BPE"},
                             {"ignore_merges", true},
                             {"vocab", {{"a", 0}, {"b", 1}}},
                             {"merges", FixtureJson::array()}};
  FixtureJson file = {{"model", model}, {"pre_tokenizer", split_by(kTekken)}};
  const auto read = [&] { return read_hub_vocab(*Json::parse(file.dump(), "here"), 2, "here"); };
  EXPECT_EQ(read()->vocab.pre_tokenizer, PreTokenizer::tekken);
  EXPECT_EQ(read()->vocab.flags, kWholeWords);
  file["normalizer"] = {{"type", "NFC"}};
  EXPECT_EQ(read()->vocab.flags, kWholeWords | kComposed);
  file["normalizer"] = {{"type", "NFKC"}};
  EXPECT_EQ(read().error().code, ErrorCode::unsupported_model);
  EXPECT_NE(read().error().message.find("NFKC"), std::string::npos);
  file["pre_tokenizer"] = split_by(R"(\p{L}+)");
  EXPECT_NE(read().error().message.find("none of"), std::string::npos);
}

TEST(Composed, TextsThatModelsWantComposedAre) {
  const Made made("qwen2");
  EXPECT_EQ(made.vocab->view().flags, kComposed);
  EXPECT_EQ(made.encode("e\u0301"), made.encode("\u00e9"));
  EXPECT_EQ(made.encode("\u1112\u1161\u11ab"), made.encode("\ud55c"));
  EXPECT_EQ(made.encode("a\u0307\u0323"), made.encode("\u1ea1\u0307")) << "marks in order";
  const Made plain("gpt2");
  EXPECT_NE(plain.encode("e\u0301"), plain.encode("\u00e9"));
}

struct BadVocab {
  const char* name;
  void (*spoil)(test::GgufWriter&);
  ErrorCode code;
  const char* named;
};

const BadVocab kBadVocabs[] = {
    {"NoScores", [](test::GgufWriter& f) { f.remove("tokenizer.ggml.scores"); },
     ErrorCode::bad_model_file, "tokenizer.ggml.scores"},
    {"FewerScores", [](test::GgufWriter& f) { f.f32s("tokenizer.ggml.scores", {1, 2}); },
     ErrorCode::bad_model_file, "2 scores"},
    {"ScoreNan",
     [](test::GgufWriter& f) {
       f.f32s("tokenizer.ggml.scores", std::vector<float>(903, std::nanf("")));
     },
     ErrorCode::bad_model_file, "not a number"},
    {"ByteMissing",
     [](test::GgufWriter& f) {
       auto types = read_fixture("sentencepiece")["token_type"].get<std::vector<int32_t>>();
       types[3 + 1] = 3;
       f.i32s("tokenizer.ggml.token_type", types);
     },
     ErrorCode::unsupported_model, "byte 1;"},
    {"ByteNameWrong",
     [](test::GgufWriter& f) {
       auto types = read_fixture("sentencepiece")["token_type"].get<std::vector<int32_t>>();
       types[0] = 6;
       f.i32s("tokenizer.ggml.token_type", types);
     },
     ErrorCode::bad_model_file, "<0x0A>"},
    {"AddsAnEos", [](test::GgufWriter& f) { f.flag("tokenizer.ggml.add_eos_token", 1); },
     ErrorCode::unsupported_model, "add_eos_token"},
    {"KindUnknown", [](test::GgufWriter& f) { f.text("tokenizer.ggml.model", "bert"); },
     ErrorCode::unsupported_model, "bert"},
};

class VocabRefuses : public testing::TestWithParam<BadVocab> {};

TEST_P(VocabRefuses, ByName) {
  auto file = file_of(read_fixture("sentencepiece"));
  GetParam().spoil(file);
  const auto vocab = read_vocab(file);
  ASSERT_FALSE(vocab);
  EXPECT_EQ(vocab.error().code, GetParam().code) << vocab.error().message;
  EXPECT_NE(vocab.error().message.find(GetParam().named), std::string::npos)
      << vocab.error().message;
}

INSTANTIATE_TEST_SUITE_P(, VocabRefuses, testing::ValuesIn(kBadVocabs),
                         [](const auto& tested) { return std::string(tested.param.name); });

}  // namespace
}  // namespace polykv
