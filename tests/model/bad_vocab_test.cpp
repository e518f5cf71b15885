// Vocabularies that no tokenizer can have, in both formats: refused by name, and soon.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "model/hub_vocab.h"
#include "model/image_vocab.h"
#include "model/token_tables.h"
#include "model/tokenizer.h"
#include "tests/model/temp_file.h"
#include "tests/model/tiny_model.h"

namespace polykv {
namespace {

using FixtureJson = nlohmann::json;
using test::GgufWriter;
using Texts = std::vector<std::string>;

Result<VocabTables> read_gguf(const GgufWriter& written) {
  const test::TempFile on_disk(written.bytes());
  const auto file = GgufFile::open(on_disk.path());
  if (!file) return pass(file);
  const auto vocab = read_gguf_vocab(*file);
  if (!vocab) return pass(vocab);
  return build_vocab(*vocab);
}

// Byte-level, with these tokens and merges.
GgufWriter gguf_of(const Texts& tokens, const Texts& merges) {
  GgufWriter file;
  file.text("tokenizer.ggml.model", "gpt2");
  file.text("tokenizer.ggml.pre", "gpt-2");
  file.texts("tokenizer.ggml.tokens", tokens);
  file.i32s("tokenizer.ggml.token_type", std::vector<int32_t>(tokens.size(), 1));
  file.texts("tokenizer.ggml.merges", merges);
  return file;
}

FixtureJson hub_of(const Texts& tokens, const Texts& merges) {
  FixtureJson words = FixtureJson::object();
  for (size_t i = 0; i < tokens.size(); ++i) words[tokens[i]] = i;
  return {{"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"model", {{"type", "BPE"}, {"vocab", words}, {"merges", merges}}}};
}

Result<VocabTables> read_hub(const std::string& text, uint32_t n_tokens) {
  const auto json = Json::parse(text, "here");
  if (!json) return pass(json);
  const auto vocab = read_hub_vocab(*json, n_tokens, "here");
  if (!vocab) return pass(vocab);
  return build_vocab(vocab->vocab);
}

testing::AssertionResult refused(const Result<VocabTables>& vocab, const std::string& named) {
  if (vocab) return testing::AssertionFailure() << "accepted";
  if (vocab.error().code != ErrorCode::bad_model_file ||
      vocab.error().message.find(named) == std::string::npos) {
    return testing::AssertionFailure() << vocab.error().message;
  }
  return testing::AssertionSuccess();
}

struct Wrong {
  const char* name;
  Texts tokens, merges;
  const char* named;
};

const Wrong kWrong[] = {
    {"MergeIntoItself", {"a", "b"}, {"a "}, "merge 0"},
    {"MergeOfNothing", {"a", "b"}, {" "}, "merge 0"},
    {"MergesInACircle", {"a", "b", "ab"}, {"a b", "ab a", "b ab"}, "merge 1"},
    {"MergeTwice", {"a", "b", "ab"}, {"a b", "a b"}, "merge 1"},
    {"MergeWithoutResult", {"a", "b"}, {"a b"}, "merge 0"},
    {"MergeOfUnknownTokens", {"a", "ab"}, {"a b"}, "merge 0"},
    {"MergeWithoutSpace", {"a", "ab"}, {"ab"}, "merge 0"},
};

class BadVocab : public testing::TestWithParam<Wrong> {};

TEST_P(BadVocab, IsRefusedByNameInBothFormats) {
  const auto& [name, tokens, merges, named] = GetParam();
  EXPECT_TRUE(refused(read_gguf(gguf_of(tokens, merges)), named));
  const auto n_tokens = static_cast<uint32_t>(tokens.size());
  EXPECT_TRUE(refused(read_hub(hub_of(tokens, merges).dump(), n_tokens), named));
}

INSTANTIATE_TEST_SUITE_P(, BadVocab, testing::ValuesIn(kWrong),
                         [](const auto& tested) { return std::string(tested.param.name); });

// Two ways to one text are no circle: each merge makes a longer token, so that merging ends.
TEST(BadVocabTest, MergesThatGoBothWaysEnd) {
  const auto vocab =
      read_gguf(gguf_of({"a", "b", "ab", "ba", "aba"}, {"a b", "b a", "ab a", "a ba"}));
  ASSERT_TRUE(vocab) << vocab.error().message;
  const TokenizerTables tables = vocab->view();
  const auto tokenizer = Tokenizer::create(tables);
  EXPECT_EQ(*tokenizer->encode("aba"), (std::vector<uint32_t>{4}));
}

TEST(BadVocabTest, TokensThatComeTwiceAreNamed) {
  EXPECT_TRUE(refused(read_gguf(gguf_of({"a", "b", "a"}, {})), "tokens 0 and 2 are both \"a\""));
  FixtureJson hub = hub_of({"a", "b"}, {});
  hub["added_tokens"] = {{{"id", 2}, {"content", "a"}, {"special", false}}};
  EXPECT_TRUE(refused(read_hub(hub.dump(), 3), "tokens 0 and 2 are both \"a\""));
  const std::string twice = R"({"model": {"vocab": {"a": 0, "a": 1}, "merges": []}})";
  EXPECT_TRUE(refused(read_hub(twice, 2), "\"a\" twice"));
}

TEST(BadVocabTest, ATokenizerWithoutMergesIsNamed) {
  GgufWriter gguf = gguf_of({"a", "b"}, {});
  gguf.remove("tokenizer.ggml.merges");
  EXPECT_TRUE(refused(read_gguf(gguf), "tokenizer.ggml.merges"));
  FixtureJson hub = hub_of({"a", "b"}, {});
  hub["model"].erase("merges");
  EXPECT_TRUE(refused(read_hub(hub.dump(), 2), "merges"));
}

TEST(BadVocabTest, AnAbsurdlyLongTokenIsNamed) {
  const std::string longest(kTokenBytesMax, 'x'), longer(kTokenBytesMax + 1, 'x');
  EXPECT_TRUE(read_gguf(gguf_of({"a", longest}, {})));
  EXPECT_TRUE(refused(read_gguf(gguf_of({"a", longer}, {})), "token 1 is 1025 bytes long"));
  EXPECT_TRUE(refused(read_hub(hub_of({"a", longer}, {}).dump(), 2), "token 1 is 1025 bytes long"));
}

// Found merges take the square of a token's length: a megabyte would take hours.
TEST(BadVocabTest, AnAbsurdlyLongTokenWithAScoreIsRefusedSoon) {
  GgufWriter file = gguf_of({"a", std::string(size_t{1} << 20, 'a')}, {});
  file.text("tokenizer.ggml.model", "llama");
  file.f32s("tokenizer.ggml.scores", {0, -1});
  EXPECT_TRUE(refused(read_gguf(file), "token 1 is 1048576 bytes long"));
}

TEST(BadVocabTest, NamesOfUnknownStepsAreMadePrintable) {
  FixtureJson hub = hub_of({"a", "b"}, {});
  hub["normalizer"] = {{"type", "a\nforged line"}};
  const auto vocab = read_hub(hub.dump(), 2);
  ASSERT_FALSE(vocab);
  EXPECT_EQ(vocab.error().code, ErrorCode::unsupported_model);
  EXPECT_NE(vocab.error().message.find("a\\x0aforged line"), std::string::npos)
      << vocab.error().message;
  EXPECT_TRUE(refused(read_hub("{\"a\\nb\": 1, \"a\\nb\": 2}", 2), "\"a\\x0ab\" twice"));
}

}  // namespace
}  // namespace polykv
