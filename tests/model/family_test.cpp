// What the families of models are read as, from GGUF files.
#include "model/family.h"

#include <gtest/gtest.h>

#include <cmath>

#include "model/heads.h"
#include "model/image.h"
#include "model/kernels.h"
#include "model/residual.h"
#include "model/rope.h"
#include "tests/model/raw_image.h"
#include "tests/model/temp_file.h"
#include "tests/model/tiny_model.h"

namespace polykv {
namespace {

using test::GgufWriter;

ModelImage mapped(const GgufWriter& file) {
  const test::TempFile on_disk(file.bytes());
  auto fd = pack_image(on_disk.path(), memory_room());
  check(fd.has_value(), fd ? "" : fd.error().message.c_str());
  auto image = ModelImage::map(std::move(*fd), true);
  check(image.has_value(), image ? "" : image.error().message.c_str());
  return std::move(*image);
}

// The tiny model under another architecture's name.
GgufWriter renamed(const std::string& architecture) {
  GgufWriter file = test::tiny_model();
  for (auto& entry : file.entries) {
    if (entry.key.starts_with("llama.")) entry.key = architecture + entry.key.substr(5);
  }
  file.text("general.architecture", architecture);
  return file;
}

GgufWriter tiny_qwen2() {
  GgufWriter file = renamed("qwen2");
  for (const char* name : {"attn_q", "attn_k", "attn_v"}) {
    test::add_tensor(file, cat("blk.0.", name, ".bias"), GgufType::f32, {64});
  }
  return file;
}

GgufWriter tiny_qwen3() {
  GgufWriter file = renamed("qwen3");
  test::add_tensor(file, "blk.0.attn_q_norm.weight", GgufType::f32, {64});
  test::add_tensor(file, "blk.0.attn_k_norm.weight", GgufType::f32, {64});
  return file;
}

std::vector<float> floats_of(const GgufWriter& file, const std::string& name) {
  for (const auto& tensor : file.tensors) {
    if (tensor.name != name) continue;
    std::vector<float> out(tensor.data.size() / sizeof(float));
    std::memcpy(out.data(), tensor.data.data(), tensor.data.size());
    return out;
  }
  return {};
}

TEST(Family, LlamaTurnsPairsSideBySideAndHasNothingBesides) {
  const ModelImage image = mapped(test::tiny_model());
  EXPECT_EQ(image.config().rope_interleaved, 1U);
  EXPECT_EQ(image.config().features, 0U);
  EXPECT_EQ(image.config().rope_scaling, RopeScaling::none);
  EXPECT_EQ(image.layer(0).q_bias, nullptr);
  EXPECT_EQ(image.layer(0).q_norm, nullptr);
}

TEST(Family, Qwen2HasBiasesAndTurnsHalves) {
  const GgufWriter file = tiny_qwen2();
  const ModelImage image = mapped(file);
  EXPECT_EQ(image.config().rope_interleaved, 0U);
  EXPECT_EQ(image.config().features, kQkvBias);
  const LayerWeights& layer = image.layer(0);
  EXPECT_EQ(std::vector<float>(layer.q_bias, layer.q_bias + 64),
            floats_of(file, "blk.0.attn_q.bias"));
  EXPECT_EQ(std::vector<float>(layer.k_bias, layer.k_bias + 64),
            floats_of(file, "blk.0.attn_k.bias"));
  EXPECT_EQ(std::vector<float>(layer.v_bias, layer.v_bias + 64),
            floats_of(file, "blk.0.attn_v.bias"));
}

TEST(Family, Qwen3HasNormsOfHeads) {
  const GgufWriter file = tiny_qwen3();
  const ModelImage image = mapped(file);
  EXPECT_EQ(image.config().features, kQkNorm);
  const LayerWeights& layer = image.layer(0);
  EXPECT_EQ(layer.q_bias, nullptr);
  EXPECT_EQ(std::vector<float>(layer.k_norm, layer.k_norm + 64),
            floats_of(file, "blk.0.attn_k_norm.weight"));
}

TEST(Family, AMissingBiasIsNamed) {
  GgufWriter file = tiny_qwen2();
  std::erase_if(file.tensors, [](const auto& t) { return t.name == "blk.0.attn_k.bias"; });
  const test::TempFile on_disk(file.bytes());
  const auto fd = pack_image(on_disk.path(), memory_room());
  ASSERT_FALSE(fd);
  EXPECT_EQ(fd.error().code, ErrorCode::bad_model_file);
  EXPECT_NE(fd.error().message.find("blk.0.attn_k.bias"), std::string::npos);
}

// A GGUF file gives Llama 3's scaling as factors, worked out by its converter in f32.
TEST(Family, RopeFactorsOfAFileAreLlama3sScaling) {
  ModelConfig wanted;
  wanted.head_dim = 64;
  wanted.rope_base = 500000;
  const auto plain = rope_frequencies(wanted);
  wanted.rope_scaling = RopeScaling::llama3;
  wanted.rope_factor = 8;
  wanted.rope_low = 1;
  wanted.rope_high = 4;
  wanted.rope_positions = 8192;
  const auto scaled = rope_frequencies(wanted);
  GgufWriter file = test::tiny_model();
  file.f32("llama.rope.freq_base", 500000);
  std::string factors;
  for (size_t i = 0; i < plain.size(); ++i) {
    factors += test::raw(static_cast<float>(plain[i] / scaled[i]));
  }
  file.tensors.push_back({"rope_freqs.weight", 0, {32}, factors});
  const ModelConfig found = mapped(file).config();
  EXPECT_EQ(found.rope_scaling, RopeScaling::llama3);
  EXPECT_NEAR(found.rope_factor, 8, 1e-5);
  EXPECT_EQ(found.rope_positions, 8192U);
}

TEST(Family, YarnIsReadWithItsDefaultsAndStretchesThePositions) {
  GgufWriter file = test::tiny_model();
  file.text("llama.rope.scaling.type", "yarn");
  file.f32("llama.rope.scaling.factor", 4);
  const ModelConfig found = mapped(file).config();
  EXPECT_EQ(found.rope_scaling, RopeScaling::yarn);
  EXPECT_EQ(found.rope_factor, 4);
  EXPECT_EQ(found.rope_low, 1);
  EXPECT_EQ(found.rope_high, 32);
  EXPECT_EQ(found.rope_positions, 128U);
  EXPECT_EQ(found.n_positions, 512U);
  EXPECT_NEAR(found.rope_attention, 1.138629436, 1e-6);
}

TEST(Family, YarnsNumbersAreTakenFromTheFile) {
  GgufWriter file = test::tiny_model();
  file.text("llama.rope.scaling.type", "yarn");
  file.f32("llama.rope.scaling.factor", 2);
  file.u32("llama.rope.scaling.original_context_length", 64);
  file.f32("llama.rope.scaling.yarn_beta_fast", 16);
  file.f32("llama.rope.scaling.yarn_beta_slow", 2);
  file.f32("llama.rope.scaling.attn_factor", 0.5F);
  const ModelConfig found = mapped(file).config();
  EXPECT_EQ(found.rope_low, 2);
  EXPECT_EQ(found.rope_high, 16);
  EXPECT_EQ(found.rope_positions, 64U);
  EXPECT_EQ(found.n_positions, 128U);
  EXPECT_NEAR(found.rope_attention, 0.5 * (1 + 0.1 * std::log(2.0)), 1e-6);
}

TEST(Family, RopeScalingOfAnUnknownKindIsRefusedInPrintableWords) {
  GgufWriter file = test::tiny_model();
  file.text("llama.rope.scaling.type", "\x8einear\n");
  const test::TempFile on_disk(file.bytes());
  const auto refused = pack_image(on_disk.path(), memory_room());
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::unsupported_model);
  EXPECT_NE(refused.error().message.find(R"("\x8einear\x0a" is not supported)"), std::string::npos)
      << refused.error().message;
}

TEST(Family, LinearRopeScalingIsRead) {
  GgufWriter file = test::tiny_model();
  file.text("llama.rope.scaling.type", "linear");
  file.f32("llama.rope.scaling.factor", 4);
  const ModelConfig found = mapped(file).config();
  EXPECT_EQ(found.rope_scaling, RopeScaling::linear);
  EXPECT_EQ(found.rope_factor, 4);
}

TEST(Heads, BiasComesBeforeTheNormOfEachHead) {
  ModelConfig config;
  config.n_heads = 2;
  config.n_kv_heads = 1;
  config.head_dim = 64;
  config.rms_eps = 1e-6F;
  const std::vector<float> bias(128, 1), norm(64, 2);
  LayerWeights layer;
  layer.q_bias = bias.data();
  layer.q_norm = norm.data();
  std::vector<float> q(256, 0), k(128, 3);
  q[0] = 7;  // one row's first head is uneven, all others are ones after the bias
  finish_heads(config, layer, {2, q.data(), k.data(), nullptr});
  const double rms = std::sqrt((8.0 * 8 + 63) / 64);
  EXPECT_NEAR(q[0], 2 * 8 / rms, 1e-5);
  EXPECT_NEAR(q[1], 2 / rms, 1e-6);
  EXPECT_NEAR(q[64], 2, 1e-5) << "the second head has its own norm";
  EXPECT_NEAR(q[255], 2, 1e-5);
  EXPECT_EQ(k, std::vector<float>(128, 3)) << "no bias, no norm";
}

TEST(Heads, OnlyQueriesAreMultipliedByTheirFactor) {
  ModelConfig config;
  config.n_heads = config.n_kv_heads = 1;
  config.head_dim = 64;
  config.query_factor = 0.5;
  std::vector<float> q(64, 3), k(64, 3), v(64, 3);
  finish_heads(config, LayerWeights{}, {1, q.data(), k.data(), v.data()});
  EXPECT_EQ(q, std::vector<float>(64, 1.5F));
  EXPECT_EQ(k, std::vector<float>(64, 3));
  EXPECT_EQ(v, k);
}

// 5.656854 in f32.
TEST(Residual, TheEmbeddingsFactorIsRoundedToBfloat16) {
  const test::RawImage raw(POLYKV_SOURCE_DIR "/tests/fixtures/family_gemma3.gguf");
  const auto image = raw.map();
  ASSERT_TRUE(image);
  ASSERT_EQ(image->config().d_model, 32U);
  std::vector<float> row(32), scaled(32);
  dequantise_row(image->embedding(), 7, row.data());
  embed_token(*image, 7, scaled.data());
  for (uint32_t i = 0; i < 32; ++i) EXPECT_EQ(scaled[i], row[i] * 5.65625F);
}

TEST(Residual, ABlockIsNormedBeforeItIsAddedWhereThereIsANorm) {
  ModelConfig config;
  config.d_model = 4;
  config.rms_eps = 1e-6F;
  const std::vector<float> norm = {1, 2, 1, 1};
  std::vector<float> y(4, 5), x(4, 10);
  add_to_residual(config, nullptr, y.data(), x.data());
  EXPECT_EQ(x, std::vector<float>(4, 15));
  add_to_residual(config, norm.data(), y.data(), x.data());
  EXPECT_NEAR(x[0], 16, 1e-5);
  EXPECT_NEAR(x[1], 17, 1e-5);
}

}  // namespace
}  // namespace polykv
