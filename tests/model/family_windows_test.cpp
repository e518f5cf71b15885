// Which layers see through a window, and what else Gemma 3 says of itself, in both kinds of files.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "model/hub_parameters.h"
#include "model/image_config.h"
#include "model/model_file.h"
#include "tests/model/temp_file.h"
#include "tests/model/tiny_model.h"

namespace polykv {
namespace {

using nlohmann::json;
using test::GgufWriter;

// The tiny model's configuration under another architecture's name.
GgufWriter tiny(const std::string& architecture, uint32_t n_layers) {
  GgufWriter file = test::tiny_model();
  for (auto& entry : file.entries) {
    if (entry.key.starts_with("llama.")) entry.key = architecture + entry.key.substr(5);
  }
  file.text("general.architecture", architecture);
  file.u32(architecture + ".block_count", n_layers);
  return file;
}

Result<ModelConfig> config_of(const GgufWriter& file) {
  const test::TempFile on_disk(file.bytes());
  auto opened = ModelFile::open(on_disk.path());
  check(opened.has_value(), opened ? "" : opened.error().message.c_str());
  return read_config((*opened)->parameters());
}

Result<ModelConfig> config_of(const json& said) {
  const auto parsed = Json::parse(said.dump(), "here");
  FileTensor embedding;
  embedding.shape = {said.value("hidden_size", uint64_t{0}), 300, 1, 1};
  const HubParameters parameters("here", *parsed, &embedding, false);
  auto others = parameters.refuse_others(*parsed);
  if (!others) return pass(others);
  return read_config(parameters);
}

json hub(const char* type, int n_layers) {
  return {{"model_type", type},
          {"hidden_size", 128},
          {"intermediate_size", 64},
          {"num_attention_heads", 2},
          {"num_key_value_heads", 1},
          {"num_hidden_layers", n_layers},
          {"max_position_embeddings", 1000},
          {"rms_norm_eps", 1e-6},
          {"sliding_window", 64}};
}

json with(json said, const json& more) {
  said.update(more);
  return said;
}

TEST(Windows, OfAGgufLlamaAreThoseOfMistralInAllLayers) {
  GgufWriter file = tiny("llama", 3);
  file.u32("llama.attention.sliding_window", 16);
  EXPECT_EQ(config_of(file)->windows, (LayerWindows{16, 0}));
  EXPECT_EQ(config_of(file)->rope_local_base, 0);
  file.u32("llama.attention.sliding_window", 128);
  EXPECT_EQ(config_of(file)->windows, LayerWindows{}) << "as long as the context: it hides nothing";
}

TEST(Windows, OfMistralAreInAllLayers) {
  EXPECT_EQ(config_of(hub("mistral", 3))->windows, (LayerWindows{64, 0}));
  EXPECT_EQ(config_of(with(hub("mistral", 3), {{"sliding_window", nullptr}}))->windows,
            LayerWindows{});
}

TEST(Windows, OfGemmaLeaveOutEverySixthLayerUnlessTheFileSaysOtherwise) {
  GgufWriter file = tiny("gemma3", 12);
  EXPECT_EQ(config_of(file)->windows, LayerWindows{});
  EXPECT_EQ(config_of(file)->rope_local_base, 0);
  file.u32("gemma3.attention.sliding_window", 512);
  EXPECT_EQ(config_of(file)->windows, (LayerWindows{512, 6})) << "even if it hides nothing";
  EXPECT_EQ(config_of(file)->rope_local_base, 10000);
  file.f32("gemma3.rope.freq_base_swa", 5000);
  file.u32("gemma3.attention.sliding_window_pattern", 4);
  EXPECT_EQ(config_of(file)->windows, (LayerWindows{512, 4}));
  EXPECT_EQ(config_of(file)->rope_local_base, 5000);
  file.u32("gemma3.attention.sliding_window_pattern", 1);
  EXPECT_EQ(config_of(file)->windows, LayerWindows{}) << "every layer is a last one";
}

TEST(Windows, AreReadFromAListOfLayers) {
  GgufWriter file = tiny("gemma3", 5);
  file.u32("gemma3.attention.sliding_window", 16);
  file.i32s("gemma3.attention.sliding_window_pattern", {1, 0, 1, 0, 1});
  EXPECT_EQ(config_of(file)->windows, (LayerWindows{16, 2}));
  file.i32s("gemma3.attention.sliding_window_pattern", {1, 1, 1, 1, 1});
  EXPECT_EQ(config_of(file)->windows, (LayerWindows{16, 0}));
  const char* const two[] = {"sliding_attention", "full_attention"};
  EXPECT_EQ(config_of(with(hub("gemma3_text", 2), {{"layer_types", two}}))->windows,
            (LayerWindows{64, 2}));
}

TEST(Windows, OfQwenCountIfTheyAreUsedFromTheFirstLayerOn) {
  const json used = {{"use_sliding_window", true}, {"max_window_layers", 0}};
  const json never = {{"use_sliding_window", true}, {"max_window_layers", 28}};
  for (const char* type : {"qwen2", "qwen3"}) {
    EXPECT_EQ(config_of(hub(type, 3))->windows, LayerWindows{});
    EXPECT_EQ(config_of(with(hub(type, 3), used))->windows, (LayerWindows{64, 0}));
    EXPECT_EQ(config_of(with(hub(type, 3), never))->windows, LayerWindows{});
  }
}

// What the smaller text models say, and the larger ones, whose part leaves most to the defaults.
TEST(Gemma3, IsReadAsItsConfigurationsAre) {
  const auto old = config_of(with(hub("gemma3_text", 12), {{"rope_theta", 500000},
                                                           {"rope_local_base_freq", 20000},
                                                           {"query_pre_attn_scalar", 64},
                                                           {"sliding_window_pattern", 3}}));
  ASSERT_TRUE(old) << old.error().message;
  EXPECT_EQ(old->features, kQkNorm | kPostNorms | kGeglu | kScaledEmbedding);
  EXPECT_EQ(old->rope_interleaved, 0U);
  EXPECT_EQ(old->windows, (LayerWindows{64, 3}));
  EXPECT_EQ(old->rope_base, 500000);
  EXPECT_EQ(old->rope_local_base, 20000);
  EXPECT_EQ(old->query_factor, 2) << "head_dim is 256 unless it is said";
  const auto sparse = config_of(json{{"model_type", "gemma3_text"},
                                     {"hidden_size", 2560},
                                     {"intermediate_size", 10240},
                                     {"num_hidden_layers", 34},
                                     {"sliding_window", 1024},
                                     {"rope_scaling", {{"factor", 8}, {"rope_type", "linear"}}}});
  ASSERT_TRUE(sparse) << sparse.error().message;
  EXPECT_EQ(sparse->n_heads, 8U);
  EXPECT_EQ(sparse->n_kv_heads, 4U);
  EXPECT_EQ(sparse->head_dim, 256U);
  EXPECT_EQ(sparse->n_positions, 131072U);
  EXPECT_EQ(sparse->windows, (LayerWindows{1024, 6}));
  EXPECT_EQ(sparse->rope_base, 1e6F);
  EXPECT_EQ(sparse->rope_scaling, RopeScaling::linear);
  EXPECT_EQ(sparse->rope_factor, 8);
  EXPECT_EQ(sparse->rope_local_base, 10000);
  EXPECT_EQ(sparse->query_factor, 1);
}

// Its queries are divided by the root of width over heads, which GGUF files leave unsaid.
TEST(Gemma3, TheLargestGgufModelIsKnownByItsLayers) {
  GgufWriter file = tiny("gemma3", 62);
  file.u32("gemma3.embedding_length", 192);
  file.u32("gemma3.attention.head_count", 2);
  file.u32("gemma3.attention.key_length", 64);
  EXPECT_FLOAT_EQ(config_of(file)->query_factor, std::sqrt(64.0F / 96));
  file.u32("gemma3.block_count", 48);
  EXPECT_EQ(config_of(file)->query_factor, 1);
}

struct Refusal {
  const char* name;
  json said;
  ErrorCode code;
  const char* named;
};

const Refusal kRefusals[] = {
    {"GemmaOne", hub("gemma", 2), ErrorCode::unsupported_model, "\"gemma\""},
    {"GemmaTwo", hub("gemma2", 2), ErrorCode::unsupported_model, "gemma2"},
    {"VisionWithoutText", hub("gemma3", 2), ErrorCode::unsupported_model, "\"gemma3\""},
    {"CappedLogits", with(hub("gemma3_text", 2), {{"final_logit_softcapping", 30}}),
     ErrorCode::unsupported_model, "final_logit_softcapping"},
    {"CappedScores", with(hub("gemma3_text", 2), {{"attn_logit_softcapping", 50}}),
     ErrorCode::unsupported_model, "attn_logit_softcapping"},
    {"BothDirections", with(hub("gemma3_text", 2), {{"use_bidirectional_attention", true}}),
     ErrorCode::unsupported_model, "use_bidirectional_attention"},
    {"Activation", with(hub("gemma3_text", 2), {{"hidden_activation", "relu"}}),
     ErrorCode::unsupported_model, "relu"},
    {"ScalarOfZero", with(hub("gemma3_text", 2), {{"query_pre_attn_scalar", 0}}),
     ErrorCode::bad_model_file, "query_pre_attn_scalar"},
    {"LocalScaling",
     with(hub("gemma3_text", 2),
          {{"rope_parameters", {{"sliding_attention", {{"rope_type", "linear"}, {"factor", 2}}}}}}),
     ErrorCode::unsupported_model, "linear"},
    {"LocalBase", with(hub("gemma3_text", 2), {{"rope_local_base_freq", -1}}),
     ErrorCode::bad_model_file, "RoPE base of layers with a window"},
    {"WindowAbsurd", with(hub("gemma3_text", 2), {{"sliding_window", 1e15}}),
     ErrorCode::bad_model_file, "windows"},
    {"FullLayersFirst",
     with(hub("gemma3_text", 2), {{"layer_types", {"full_attention", "sliding_attention"}}}),
     ErrorCode::unsupported_model, "layer_types"},
    {"LayersMissing", with(hub("gemma3_text", 2), {{"layer_types", {"full_attention"}}}),
     ErrorCode::bad_model_file, "layer_types"},
    {"LayersOfAnotherKind",
     with(hub("gemma3_text", 2), {{"layer_types", {"full_attention", "linear_attention"}}}),
     ErrorCode::unsupported_model, "linear_attention"},
    {"NoListOfLayers", with(hub("gemma3_text", 2), {{"layer_types", 3}}), ErrorCode::bad_model_file,
     "layer_types"},
    {"QwenFromSomeLayerOn",
     with(hub("qwen2", 2), {{"use_sliding_window", true}, {"max_window_layers", 1}}),
     ErrorCode::unsupported_model, "max_window_layers"},
    {"QwenAgainstItself",
     with(hub("qwen3", 2), {{"use_sliding_window", false},
                            {"layer_types", {"sliding_attention", "sliding_attention"}}}),
     ErrorCode::unsupported_model, "use_sliding_window"},
    {"LayersAbsurd", hub("gemma3_text", 2000000000), ErrorCode::bad_model_file, "layers"},
    {"LlamaWithAWindow", hub("llama", 2), ErrorCode::unsupported_model, "sliding_window"},
};

class WindowsRefused : public testing::TestWithParam<Refusal> {};

TEST_P(WindowsRefused, ByName) {
  const auto config = config_of(GetParam().said);
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().code, GetParam().code) << config.error().message;
  EXPECT_NE(config.error().message.find(GetParam().named), std::string::npos)
      << config.error().message;
}

INSTANTIATE_TEST_SUITE_P(, WindowsRefused, testing::ValuesIn(kRefusals),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST(Windows, OfAGgufQwenAreRefused) {
  GgufWriter file = tiny("qwen2", 1);
  file.u32("qwen2.attention.sliding_window", 16);
  const auto config = config_of(file);
  ASSERT_FALSE(config);
  EXPECT_NE(config.error().message.find("qwen2.attention.sliding_window"), std::string::npos);
}

}  // namespace
}  // namespace polykv
