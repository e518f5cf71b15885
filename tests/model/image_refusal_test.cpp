// Model files that are well-formed GGUF but cannot or must not be packed.
#include <gtest/gtest.h>

#include <cmath>

#include "model/image.h"
#include "tests/model/temp_file.h"
#include "tests/model/tiny_model.h"

namespace polykv {
namespace {

using test::GgufWriter;

Result<UniqueFd> pack(const GgufWriter& file) {
  const test::TempFile on_disk(file.bytes());
  return pack_image(on_disk.path(), memory_room());
}

struct Refusal {
  const char* name;
  void (*spoil)(GgufWriter&);
  ErrorCode code;
  std::vector<const char*> named;
};

constexpr auto kBad = ErrorCode::bad_model_file;
constexpr auto kUnsupported = ErrorCode::unsupported_model;

void drop(GgufWriter& file, const std::string& name) {
  std::erase_if(file.tensors, [&](const auto& tensor) { return tensor.name == name; });
}

std::string half_bits(uint16_t bits) { return test::raw(bits); }

const Refusal kRefusals[] = {
    {"Architecture",
     [](GgufWriter& f) { f.text("general.architecture", "mamba"); },
     kUnsupported,
     {"mamba", "llama"}},
    {"NoArchitecture",
     [](GgufWriter& f) { f.remove("general.architecture"); },
     kBad,
     {"general.architecture"}},
    {"MissingKey",
     [](GgufWriter& f) { f.remove("llama.block_count"); },
     kBad,
     {"llama.block_count"}},
    {"MissingTensor",
     [](GgufWriter& f) { drop(f, "blk.0.attn_v.weight"); },
     kBad,
     {"blk.0.attn_v.weight", "missing"}},
    {"MissingEmbedding",
     [](GgufWriter& f) { drop(f, "token_embd.weight"); },
     kBad,
     {"token_embd.weight"}},
    {"OneLayerTooFew",
     [](GgufWriter& f) { f.u32("llama.block_count", 2); },
     kBad,
     {"blk.1.attn_norm.weight"}},
    {"ShapeAgainstConfig",
     [](GgufWriter& f) { f.u32("llama.feed_forward_length", 128); },
     kBad,
     {"blk.0.ffn_gate.weight", "[64, 96]", "[64, 128]"}},
    {"NormOfTheWrongShape",
     [](GgufWriter& f) {
       drop(f, "output_norm.weight");
       test::add_tensor(f, "output_norm.weight", GgufType::f32, {32});
     },
     kBad,
     {"output_norm.weight", "[32]", "[64]"}},
    {"QuantisedNorm",
     [](GgufWriter& f) {
       drop(f, "output_norm.weight");
       test::add_tensor(f, "output_norm.weight", GgufType::q8_0, {64});
     },
     kUnsupported,
     {"output_norm.weight", "Q8_0"}},
    {"Bias",
     [](GgufWriter& f) { test::add_tensor(f, "blk.0.attn_q.bias", GgufType::f32, {64}); },
     kUnsupported,
     {"blk.0.attn_q.bias"}},
    {"RopeFactors",
     [](GgufWriter& f) { test::add_tensor(f, "rope_freqs.weight", GgufType::f32, {32}); },
     kUnsupported,
     {"rope_freqs.weight"}},
    {"RopeScaling",
     [](GgufWriter& f) { f.text("llama.rope.scaling.type", "longrope"); },
     kUnsupported,
     {"longrope"}},
    {"YarnOfAnotherKind",
     [](GgufWriter& f) {
       f.text("llama.rope.scaling.type", "yarn");
       f.f32("llama.rope.scaling.factor", 4);
       f.f32("llama.rope.scaling.yarn_log_multiplier", 0.1F);
     },
     kUnsupported,
     {"yarn", "llama.rope.scaling.yarn_log_multiplier"}},
    {"YarnWithoutAFactor",
     [](GgufWriter& f) { f.text("llama.rope.scaling.type", "yarn"); },
     kBad,
     {"llama.rope.scaling.factor"}},
    {"RopeFactorAbsurd",
     [](GgufWriter& f) { f.f32("llama.rope.scaling.factor", -4); },
     kBad,
     {"RoPE factor is -4"}},
    {"HalfRotated",
     [](GgufWriter& f) { f.u32("llama.rope.dimension_count", 32); },
     kUnsupported,
     {"llama.rope.dimension_count", "32", "64"}},
    {"HeadDim",
     [](GgufWriter& f) { f.u32("llama.attention.head_count", 2); },
     kUnsupported,
     {"head_dim is 32", "64, 128 and 256"}},
    {"HeadsZero", [](GgufWriter& f) { f.u32("llama.attention.head_count", 0); }, kBad, {"0 heads"}},
    {"KvHeadsZero",
     [](GgufWriter& f) { f.u32("llama.attention.head_count_kv", 0); },
     kBad,
     {"key/value heads is 0"}},
    {"KvHeadsDoNotDivide",
     [](GgufWriter& f) { f.u32("llama.attention.head_count_kv", 3); },
     kBad,
     {"key/value heads, 3"}},
    {"LayersAbsurd",
     [](GgufWriter& f) { f.u32("llama.block_count", 4000000000U); },
     kBad,
     {"4000000000"}},
    {"WidthZero",
     [](GgufWriter& f) { f.u32("llama.embedding_length", 0); },
     kUnsupported,
     {"head_dim is 0"}},
    {"EpsilonZero",
     [](GgufWriter& f) { f.f32("llama.attention.layer_norm_rms_epsilon", 0); },
     kBad,
     {"epsilon is 0"}},
    {"RopeBaseNan", [](GgufWriter& f) { f.f32("llama.rope.freq_base", NAN); }, kBad, {"RoPE base"}},
    {"Experts", [](GgufWriter& f) { f.u32("llama.expert_count", 8); }, kUnsupported, {"8 experts"}},
    {"VocabularySize", [](GgufWriter& f) { f.u32("llama.vocab_size", 17); }, kBad, {"17", "16"}},
    {"TokenizerModel",
     [](GgufWriter& f) { f.text("tokenizer.ggml.model", "bert"); },
     kUnsupported,
     {"tokenizer.ggml.model", "bert", "gpt2"}},
    {"PreTokenizer",
     [](GgufWriter& f) { f.text("tokenizer.ggml.pre", "viking"); },
     kUnsupported,
     {"viking", "smollm"}},
    {"AddedEos",
     [](GgufWriter& f) { f.flag("tokenizer.ggml.add_eos_token", 1); },
     kUnsupported,
     {"add_eos_token"}},
    {"ChatTemplate",
     [](GgufWriter& f) { f.text("tokenizer.chat_template", "{{ alpaca }}"); },
     kUnsupported,
     {"{{ alpaca }}", "--chat-format", "chatml"}},
    {"ChatTokens",
     [](GgufWriter& f) { f.text("tokenizer.chat_template", "<start_of_turn> <end_of_turn>"); },
     kUnsupported,
     {"gemma", "<start_of_turn>", "--chat-format"}},
    {"NoChatTemplate",
     [](GgufWriter& f) { f.remove("tokenizer.chat_template"); },
     kUnsupported,
     {"no chat format", "plain"}},
    {"FewerTypesThanTokens",
     [](GgufWriter& f) { f.i32s("tokenizer.ggml.token_type", {1, 1}); },
     kBad,
     {"16 tokens", "2 token types"}},
    {"TokenTypeUnknown",
     [](GgufWriter& f) { f.i32s("tokenizer.ggml.token_type", std::vector<int32_t>(16, 9)); },
     kBad,
     {"type 9"}},
    {"MergeOfUnknownTokens",
     [](GgufWriter& f) { f.texts("tokenizer.ggml.merges", {"a q"}); },
     kBad,
     {"a q"}},
    {"MergeWithoutSpace",
     [](GgufWriter& f) { f.texts("tokenizer.ggml.merges", {"ab"}); },
     kBad,
     {"\"ab\""}},
    {"MergeTwice",
     [](GgufWriter& f) { f.texts("tokenizer.ggml.merges", {"a b", "a b"}); },
     kBad,
     {"twice"}},
    {"EosPastTheVocabulary",
     [](GgufWriter& f) { f.u32("tokenizer.ggml.eos_token_id", 16); },
     kBad,
     {"eos_token_id is 16"}},
    {"ScaleInfinite",
     [](GgufWriter& f) { f.tensor("blk.0.attn_k.weight").data.replace(20, 2, half_bits(0x7c00)); },
     kBad,
     {"blk.0.attn_k.weight"}},
    {"ScaleTimesEightTooLarge",
     [](GgufWriter& f) { f.tensor("blk.0.attn_q.weight").data.replace(18, 2, half_bits(0x7bff)); },
     kBad,
     {"blk.0.attn_q.weight"}},
    {"NormNan",
     [](GgufWriter& f) { f.tensor("output_norm.weight").data.replace(4, 4, test::raw(NAN)); },
     kBad,
     {"output_norm.weight"}},
};

class ImageRefuses : public testing::TestWithParam<Refusal> {};

TEST_P(ImageRefuses, ByName) {
  GgufWriter file = test::tiny_model();
  GetParam().spoil(file);
  const auto fd = pack(file);
  ASSERT_FALSE(fd);
  EXPECT_EQ(fd.error().code, GetParam().code) << fd.error().message;
  for (const char* named : GetParam().named) {
    EXPECT_NE(fd.error().message.find(named), std::string::npos)
        << named << " in: " << fd.error().message;
  }
}

INSTANTIATE_TEST_SUITE_P(, ImageRefuses, testing::ValuesIn(kRefusals),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST(ImageRefusesTokens, ThatAppearTwice) {
  GgufWriter file = test::tiny_model();
  std::vector<std::string> tokens(16, "a");
  file.texts("tokenizer.ggml.tokens", tokens);
  file.texts("tokenizer.ggml.merges", {});
  const auto fd = pack(file);
  ASSERT_FALSE(fd);
  EXPECT_EQ(fd.error().code, kBad);
  EXPECT_NE(fd.error().message.find("\"a\""), std::string::npos);
}

}  // namespace
}  // namespace polykv
