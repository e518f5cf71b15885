// Reading the fixtures of families.
#include "tests/model/family_fixture.h"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

namespace polykv::test {

FamilyFixture FamilyFixture::at(const std::string& json_path) {
  std::ifstream file(json_path);
  const auto json = nlohmann::json::parse(file);
  FamilyFixture out;
  out.tokens = json["tokens"].get<std::vector<uint32_t>>();
  out.positions = json["positions"].get<std::vector<uint32_t>>();
  out.logits = json["logits"].get<std::vector<std::vector<float>>>();
  return out;
}

FamilyFixture::FamilyFixture(const std::string& name)
    : FamilyFixture(at(POLYKV_SOURCE_DIR "/tests/fixtures/family_" + name + ".json")) {
  path = POLYKV_SOURCE_DIR "/tests/fixtures/family_" + name + ".gguf";
}

FamilyFixture FamilyFixture::hub(const std::string& name) {
  const std::string path = POLYKV_SOURCE_DIR "/tests/fixtures/hub_" + name;
  FamilyFixture out = at(path + ".json");
  out.path = path;
  return out;
}

double FamilyFixture::error(const std::vector<float>& logits_of_all) const {
  double most = 0;
  for (size_t i = 0; i < positions.size(); ++i) {
    const float* ours = &logits_of_all[positions[i] * logits[i].size()];
    for (size_t t = 0; t < logits[i].size(); ++t) {
      const double off = std::abs(double{ours[t]} - logits[i][t]);
      most = std::isfinite(off) ? std::max(most, off) : INFINITY;
    }
  }
  return most;
}

ModelImage open_image(const RawImage& raw) {
  auto image = raw.map();
  check(image.has_value(), image ? "" : image.error().message.c_str());
  return std::move(*image);
}

// Features of the configuration alone.
void change_config(RawImage& raw, void (*change)(ModelConfig&)) {
  ImageHeader header = raw.header();
  change(header.config);
  raw.put(0, header);
  raw.reseal();
}

std::vector<Feature> family_features() {
  using R = TensorRole;
  using C = ModelConfig;
  constexpr auto change = change_config;
  return {
      {"qwen2", "QkvBias",
       [](RawImage& r) { r.switch_off(kQkvBias, {R::q_bias, R::k_bias, R::v_bias}); }},
      {"qwen3", "QkNorm", [](RawImage& r) { r.switch_off(kQkNorm, {R::q_norm, R::k_norm}); }},
      {"llama", "RopeScaling",
       [](RawImage& r) { change(r, [](C& c) { c.rope_scaling = RopeScaling::none; }); }},
      {"yarn", "Yarn",
       [](RawImage& r) { change(r, [](C& c) { c.rope_scaling = RopeScaling::none; }); }},
      {"yarn", "YarnsFactorAlone",
       [](RawImage& r) { change(r, [](C& c) { c.rope_scaling = RopeScaling::linear; }); }},
      {"llama", "PairsSideBySide",
       [](RawImage& r) { change(r, [](C& c) { c.rope_interleaved = 0; }); }},
      {"mistral", "RopeBase", [](RawImage& r) { change(r, [](C& c) { c.rope_base = 20000; }); }},
      {"mistral", "Windows", [](RawImage& r) { change(r, [](C& c) { c.windows = {}; }); }},
      {"mistral", "WindowsToTheToken",
       [](RawImage& r) { change(r, [](C& c) { c.windows.tokens += 1; }); }},
      {"gemma3", "PostNorms",
       [](RawImage& r) { r.switch_off(kPostNorms, {R::attn_post_norm, R::ffn_post_norm}); }},
      {"gemma3", "NormsOfHeads",
       [](RawImage& r) { r.switch_off(kQkNorm, {R::q_norm, R::k_norm}); }},
      {"gemma3", "Gelu", [](RawImage& r) { change(r, [](C& c) { c.features &= ~kGeglu; }); }},
      {"gemma3", "ScaledEmbedding",
       [](RawImage& r) { change(r, [](C& c) { c.features &= ~kScaledEmbedding; }); }},
      {"gemma3", "WindowsOfAllButTheLast",
       [](RawImage& r) { change(r, [](C& c) { c.windows.tokens = 1000; }); }},
      {"gemma3", "OneTokenLess",
       [](RawImage& r) { change(r, [](C& c) { c.windows.tokens -= 1; }); }},
      {"gemma3", "LayersThatSeeAll",
       [](RawImage& r) { change(r, [](C& c) { c.windows.period = 0; }); }},
      {"gemma3", "LocalRopeBase",
       [](RawImage& r) { change(r, [](C& c) { c.rope_local_base = 0; }); }},
      {"gemma3", "LinearRopeScaling",
       [](RawImage& r) { change(r, [](C& c) { c.rope_scaling = RopeScaling::none; }); }},
  };
}

}  // namespace polykv::test
