// Checkpoints as Hugging Face's transformers writes them (tests/scripts/make_hub_fixture.py): what
// is read, what both formats agree on, and what is refused.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "model/decoder.h"
#include "model/safetensors.h"
#include "model/token_tables.h"
#include "model/tokenizer.h"
#include "tests/model/family_fixture.h"
#include "tests/model/plain_attention.h"

namespace polykv {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::FamilyFixture;
using test::kFamilyTolerance;
using test::RawImage;

const std::string kFixtures = POLYKV_SOURCE_DIR "/tests/fixtures/";

std::vector<float> decode(const ModelImage& image, const std::vector<uint32_t>& tokens) {
  const Kernels kernels = choose_kernels()->set;
  ThreadTeam team(2);
  Decoder decoder(image, kernels, team);
  test::PlainAttention attention(image.config());
  const uint32_t n_vocab = image.config().n_vocab;
  std::vector<float> logits(tokens.size() * n_vocab);
  for (uint32_t at = 0; at < tokens.size(); ++at) {
    decoder.step(std::span(tokens).subspan(at, 1), at, attention, 1, &logits[size_t{at} * n_vocab]);
  }
  return logits;
}

class Hub : public testing::TestWithParam<const char*> {};

TEST_P(Hub, PredictsWhatTransformersDoes) {
  const FamilyFixture fixture = FamilyFixture::hub(GetParam());
  const ModelImage image = open_image(RawImage(fixture.path));
  const double error = fixture.error(decode(image, fixture.tokens));
  std::printf("%s: off by at most %.3g\n", GetParam(), error);
  EXPECT_LE(error, kFamilyTolerance);
}

TEST_P(Hub, TokenisesAsTheSameVocabularyFromGgufDoes) {
  const std::string name = GetParam();
  const bool gemma = name == "gemma3";
  const ModelImage image = open_image(RawImage(kFixtures + "hub_" + name));
  const auto tokenizer = Tokenizer::create(image);
  std::ifstream file(kFixtures + (gemma                      ? "hub_gemma3.json"
                                  : name.starts_with("qwen") ? "vocab_qwen2.json"
                                                             : "vocab_llamabpe.json"));
  const json vocabulary = json::parse(file);
  EXPECT_GE(vocabulary["samples"].size(), 190U);
  for (const auto& sample : vocabulary["samples"]) {
    EXPECT_EQ(*tokenizer->encode(sample[0].get<std::string>()),
              sample[1].get<std::vector<uint32_t>>())
        << sample[0];
  }
  EXPECT_EQ(image.chat_format(), gemma ? "gemma" : "chatml");
  EXPECT_EQ(token_text(image.tokenizer(), image.tokenizer().eos), gemma ? "<eos>" : "<|im_end|>")
      << "of two end tokens the first";
  EXPECT_TRUE(tokenizer->is_special(image.config().n_vocab - 1))
      << "the embedding has more rows than there are tokens";
}

INSTANTIATE_TEST_SUITE_P(, Hub, testing::ValuesIn(test::kHubs));

class HubNeeds : public testing::TestWithParam<test::Feature> {};

TEST_P(HubNeeds, EachFeature) {
  const FamilyFixture fixture = FamilyFixture::hub(GetParam().family);
  RawImage raw(fixture.path);
  GetParam().switch_off(raw);
  EXPECT_GT(fixture.error(decode(open_image(raw), fixture.tokens)), 10 * kFamilyTolerance);
}

const test::Feature kHubFeatures[] = {
    {"llama", "RopeScaling",
     [](RawImage& r) {
       test::change_config(r, [](ModelConfig& c) { c.rope_scaling = RopeScaling::none; });
     }},
    {"qwen3", "Yarn",
     [](RawImage& r) {
       test::change_config(r, [](ModelConfig& c) { c.rope_scaling = RopeScaling::none; });
     }},
    {"mistral", "Windows",
     [](RawImage& r) { test::change_config(r, [](ModelConfig& c) { c.windows = {}; }); }},
    {"gemma3", "QueryFactor",
     [](RawImage& r) { test::change_config(r, [](ModelConfig& c) { c.query_factor = 1; }); }},
    {"gemma3", "WindowsOfTheFirstLayer",
     [](RawImage& r) { test::change_config(r, [](ModelConfig& c) { c.windows.tokens = 1000; }); }},
    {"gemma3", "LocalRopeBase",
     [](RawImage& r) { test::change_config(r, [](ModelConfig& c) { c.rope_local_base = 0; }); }},
};
INSTANTIATE_TEST_SUITE_P(, HubNeeds, testing::ValuesIn(kHubFeatures), [](const auto& tested) {
  return std::string(tested.param.family) + tested.param.name;
});

TEST(HubNames, AFileOfTheFolderNamesTheFolder) {
  EXPECT_TRUE(pack_image(kFixtures + "hub_llama/model.safetensors", memory_room()));
  EXPECT_TRUE(pack_image(kFixtures + "hub_qwen2/model.safetensors.index.json", memory_room()));
}

// A copy of the checkpoint that a test may spoil.
class SpoiltHub {
 public:
  explicit SpoiltHub(const char* of = "llama") : path_(test::TempFile("").path() + ".d") {
    fs::copy(kFixtures + "hub_" + of, path_);
    for (const auto& file : fs::directory_iterator(path_)) {
      fs::permissions(file.path(), fs::perms::owner_all);
    }
  }
  SpoiltHub(const SpoiltHub&) = delete;
  SpoiltHub& operator=(const SpoiltHub&) = delete;
  ~SpoiltHub() { fs::remove_all(path_); }
  const std::string& path() const { return path_; }
  void edit(const char* name, const std::function<void(json&)>& change) const {
    std::ifstream in(path_ + "/" + name);
    json all = json::parse(in);
    change(all);
    std::ofstream(path_ + "/" + name) << all;
  }
  // The table of the safetensors file, and bytes behind all tensors.
  void edit_table(const std::function<void(json&)>& change, const std::string& more = "") const {
    const std::string file = path_ + "/model.safetensors";
    std::ifstream in(file, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(in)), {});
    uint64_t size = 0;
    std::memcpy(&size, bytes.data(), sizeof size);
    json table = json::parse(bytes.substr(8, size));
    change(table);
    const std::string text = table.dump();
    std::ofstream(file, std::ios::binary)
        << test::raw<uint64_t>(text.size()) << text << bytes.substr(8 + size) << more;
  }

 private:
  std::string path_;
};

constexpr const char* kImagePart = "vision_tower.head.probe";

// Of four bytes, behind all others.
void add_image_part(json& table) {
  uint64_t end = 0;
  for (const auto& [name, entry] : table.items()) {
    if (entry.contains("data_offsets")) end = std::max<uint64_t>(end, entry["data_offsets"][1]);
  }
  table[kImagePart] = {{"dtype", "BF16"}, {"shape", {1, 1, 2}}, {"data_offsets", {end, end + 4}}};
}

// As a checkpoint of Gemma 3 that sees images is laid out.
TEST(HubGemma3, TheTextModelWithinOneThatSeesImagesRuns) {
  const SpoiltHub hub("gemma3");
  hub.edit("config.json", [](json& all) {
    const json text = all;
    all = {{"model_type", "gemma3"}, {"text_config", text}, {"vision_config", json::object()}};
  });
  hub.edit_table(
      [](json& table) {
        json within;
        for (const auto& [name, entry] : table.items()) {
          within[name == "__metadata__" ? name : "language_model." + name] = entry;
        }
        add_image_part(within);
        table = within;
      },
      "abcd");
  const FamilyFixture fixture = FamilyFixture::hub("gemma3");
  const ModelImage image = open_image(RawImage(hub.path()));
  EXPECT_LE(fixture.error(decode(image, fixture.tokens)), kFamilyTolerance);
  hub.edit("config.json", [](json& all) { all["quantization_config"] = {{"bits", 4}}; });
  const auto refused = pack_image(hub.path(), memory_room());
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("quantization_config"), std::string::npos);
}

TEST(HubGemma3, PartsThatSeeImagesHaveNoPlaceInATextModel) {
  const SpoiltHub hub("gemma3");
  hub.edit_table([](json& table) { add_image_part(table); }, "abcd");
  const auto refused = pack_image(hub.path(), memory_room());
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find(kImagePart), std::string::npos);
}

struct Refusal {
  const char* name;
  void (*spoil)(const SpoiltHub&);
  ErrorCode code;
  const char* named;
};

constexpr auto kBad = ErrorCode::bad_model_file;
constexpr auto kUnsupported = ErrorCode::unsupported_model;
constexpr const char* kNorm = "model.norm.weight";

void config(const SpoiltHub& hub, const char* key, const json& value) {
  hub.edit("config.json", [&](json& all) { all[key] = value; });
}
void tensor(const SpoiltHub& hub, const char* key, const json& value) {
  hub.edit_table([&](json& all) { all[kNorm][key] = value; });
}

const Refusal kRefusals[] = {
    {"Family", [](const SpoiltHub& h) { config(h, "model_type", "mamba"); }, kUnsupported, "mamba"},
    {"LayersMissing", [](const SpoiltHub& h) { config(h, "num_hidden_layers", nullptr); }, kBad,
     "num_hidden_layers"},
    {"LayersNegative", [](const SpoiltHub& h) { config(h, "num_hidden_layers", -2); }, kBad,
     "num_hidden_layers"},
    {"HeadDim", [](const SpoiltHub& h) { config(h, "head_dim", 96); }, kUnsupported, "96"},
    {"Window", [](const SpoiltHub& h) { config(h, "sliding_window", 64); }, kUnsupported,
     "sliding_window"},
    {"Activation", [](const SpoiltHub& h) { config(h, "hidden_act", "relu"); }, kUnsupported,
     "relu"},
    {"RopeType",
     [](const SpoiltHub& h) { config(h, "rope_parameters", {{"rope_type", "longrope"}}); },
     kUnsupported, "longrope"},
    {"YarnVariant",
     [](const SpoiltHub& h) {
       config(h, "rope_parameters", {{"rope_type", "yarn"}, {"factor", 4}, {"mscale", 0.7}});
     },
     kUnsupported, "mscale"},
    {"Quantised", [](const SpoiltHub& h) { config(h, "quantization_config", {{"bits", 4}}); },
     kUnsupported, "quantization_config"},
    {"LayerTypes",
     [](const SpoiltHub& h) { config(h, "layer_types", {"sliding_attention", "full_attention"}); },
     kUnsupported, "layer_types"},
    {"NoConfig", [](const SpoiltHub& h) { fs::remove(h.path() + "/config.json"); }, kBad,
     "config.json"},
    {"ConfigCutShort",
     [](const SpoiltHub& h) { std::ofstream(h.path() + "/config.json") << "{\"a\": 1"; }, kBad,
     "malformed JSON"},
    {"ConfigDeep",
     [](const SpoiltHub& h) { std::ofstream(h.path() + "/config.json") << std::string(99, '['); },
     kBad, "levels"},
    {"ConfigTwice",
     [](const SpoiltHub& h) { std::ofstream(h.path() + "/config.json") << R"({"a":1,"a":2})"; },
     kBad, "twice"},
    {"NoTensors", [](const SpoiltHub& h) { fs::remove(h.path() + "/model.safetensors"); }, kBad,
     "model.safetensors"},
    {"IndexLeavesTheFolder",
     [](const SpoiltHub& h) {
       std::ofstream(h.path() + "/model.safetensors.index.json")
           << R"({"weight_map": {"a": "../model.safetensors"}})";
     },
     kBad, "this folder"},
    {"TableLongerThanTheFile",
     [](const SpoiltHub& h) {
       std::ofstream(h.path() + "/model.safetensors") << test::raw<uint64_t>(1 << 20) << "{}";
     },
     kBad, "table of tensors"},
    {"NoSafetensors",
     [](const SpoiltHub& h) { std::ofstream(h.path() + "/model.safetensors") << "GGUF"; }, kBad,
     "too short"},
    {"TensorMissing", [](const SpoiltHub& h) { h.edit_table([](json& t) { t.erase(kNorm); }); },
     kBad, kNorm},
    {"TensorUnknown",
     [](const SpoiltHub& h) {
       h.edit_table([](json& t) {
         t["stranger"] = t[kNorm];
         t.erase(kNorm);
       });
     },
     kBad, kNorm},
    {"TensorType", [](const SpoiltHub& h) { tensor(h, "dtype", "I64"); }, kUnsupported, "I64"},
    {"TensorShape", [](const SpoiltHub& h) { tensor(h, "shape", {33}); }, kBad, kNorm},
    {"TensorShapeAbsurd", [](const SpoiltHub& h) { tensor(h, "shape", {4e9, 4e9, 4e9}); }, kBad,
     kNorm},
    {"TensorShapeEmpty", [](const SpoiltHub& h) { tensor(h, "shape", json::array()); }, kBad,
     kNorm},
    {"TensorOutside", [](const SpoiltHub& h) { tensor(h, "data_offsets", {0, 1e15}); }, kBad,
     kNorm},
    {"TensorsOverlap", [](const SpoiltHub& h) { tensor(h, "data_offsets", {2, 66}); }, kBad,
     "overlap"},
    {"TokenizerModel",
     [](const SpoiltHub& h) {
       h.edit("tokenizer.json", [](json& t) { t["model"]["type"] = "Unigram"; });
     },
     kUnsupported, "Unigram"},
    {"PreTokenizer",
     [](const SpoiltHub& h) {
       h.edit("tokenizer.json",
              [](json& t) { t["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "\\w+"; });
     },
     kUnsupported, "pre-tokenizer"},
    {"Normalizer",
     [](const SpoiltHub& h) {
       h.edit("tokenizer.json", [](json& t) { t["normalizer"] = {{"type", "Lowercase"}}; });
     },
     kUnsupported, "Lowercase"},
    {"NoMerges",
     [](const SpoiltHub& h) {
       h.edit("tokenizer.json", [](json& t) { t["model"].erase("merges"); });
     },
     kBad, "merges"},
    {"TokenTwice",
     [](const SpoiltHub& h) {
       h.edit("tokenizer.json", [](json& t) { t["model"]["vocab"]["stranger"] = 5; });
     },
     kBad, "same id"},
    {"TokenPastTheEmbedding",
     [](const SpoiltHub& h) {
       h.edit("tokenizer.json", [](json& t) { t["model"]["vocab"]["stranger"] = 704; });
     },
     kBad, "704"},
};

class HubRefuses : public testing::TestWithParam<Refusal> {};

TEST_P(HubRefuses, ByName) {
  const SpoiltHub hub;
  GetParam().spoil(hub);
  const auto fd = pack_image(hub.path(), memory_room());
  ASSERT_FALSE(fd);
  EXPECT_EQ(fd.error().code, GetParam().code) << fd.error().message;
  EXPECT_NE(fd.error().message.find(GetParam().named), std::string::npos) << fd.error().message;
}

INSTANTIATE_TEST_SUITE_P(, HubRefuses, testing::ValuesIn(kRefusals),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST(Safetensors, EveryTruncationIsRefused) {
  std::ifstream in(kFixtures + "hub_qwen2/model-00006-of-00006.safetensors", std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(in)), {});
  for (size_t size = 0; size <= bytes.size(); ++size) {
    std::vector<std::string> names;
    const auto part = std::as_bytes(std::span(bytes).first(size));
    EXPECT_EQ(parse_safetensors(part, "x", names).has_value(), size == bytes.size()) << size;
  }
}

}  // namespace
}  // namespace polykv
