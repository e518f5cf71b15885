// Files of each format cut short, of another byte order, or contradicting themselves.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>

#include "model/image.h"
#include "tests/model/hub_copy.h"
#include "tests/model/temp_file.h"
#include "tests/model/tiny_model.h"

namespace polykv {
namespace {

using FixtureJson = nlohmann::json;

struct SpoiltHub : test::HubCopy {
  SpoiltHub() : HubCopy(POLYKV_SOURCE_DIR "/tests/fixtures/hub_llama") {}
  void edit(const char* name, const std::function<void(FixtureJson&)>& change) const {
    FixtureJson all = FixtureJson::parse(read(name));
    change(all);
    write(name, all.dump());
  }
};

testing::AssertionResult refused(const Result<UniqueFd>& packed, ErrorCode code,
                                 const std::string& named) {
  if (packed) return testing::AssertionFailure() << "accepted";
  if (packed.error().code != code || packed.error().message.find(named) == std::string::npos) {
    return testing::AssertionFailure() << packed.error().message;
  }
  return testing::AssertionSuccess();
}

Result<UniqueFd> pack(const test::GgufWriter& file) {
  const test::TempFile on_disk(file.bytes());
  return pack_image(on_disk.path(), memory_room());
}

constexpr auto kBad = ErrorCode::bad_model_file;
constexpr auto kUnsupported = ErrorCode::unsupported_model;

TEST(BadGguf, OfTheOtherByteOrderIsNamed) {
  test::GgufWriter file = test::tiny_model();
  for (const uint32_t version : {2U, 3U}) {
    file.version = __builtin_bswap32(version);
    EXPECT_TRUE(refused(pack(file), kUnsupported, "big-endian"));
  }
}

TEST(BadGguf, EveryMissingTensorIsNamed) {
  const test::GgufWriter whole = test::tiny_model();
  for (size_t i = 0; i < whole.tensors.size(); ++i) {
    test::GgufWriter file = whole;
    const std::string name = file.tensors[i].name;
    file.tensors.erase(file.tensors.begin() + static_cast<ptrdiff_t>(i));
    EXPECT_TRUE(refused(pack(file), kBad, name)) << name;
  }
}

// The file is well-formed, the shape another than the configuration asks for.
TEST(BadGguf, EveryTensorOfAnotherShapeIsNamed) {
  const test::GgufWriter whole = test::tiny_model();
  for (size_t i = 1; i < whole.tensors.size(); ++i) {  // the first says how many tokens there are
    test::GgufWriter file = whole;
    test::WrittenTensor& tensor = file.tensors[i];
    tensor.shape.push_back(tensor.shape.size() == 1 ? 2 : 1);
    tensor.shape[tensor.shape.size() - 2] *= 2;
    tensor.data = std::string(tensor.data.size() * 4, '\0');
    EXPECT_TRUE(refused(pack(file), kBad, tensor.name)) << tensor.name;
  }
}

// A structure's end is where a cut is easiest to overlook: behind each brace, comma, colon, quote.
TEST(BadHub, JsonThatEndsAtAnyStructuralBoundaryIsRefusedByName) {
  for (const char* name : {"config.json", "tokenizer.json"}) {
    const SpoiltHub hub;
    const std::string whole = hub.read(name);
    size_t n_cuts = 0;
    for (size_t size = 0; size < whole.rfind('}'); ++size) {
      if (std::string("{}[],:\"").find(whole[size]) == std::string::npos) continue;
      if (size > 1000 && size % 23 != 0) continue;  // all of the first, then some of thousands
      hub.write(name, whole.substr(0, size + 1));
      ASSERT_TRUE(refused(pack_image(hub.path(), memory_room()), kBad, name)) << size;
      ++n_cuts;
    }
    EXPECT_GT(n_cuts, 50U);
  }
}

TEST(BadHub, TensorsThatEndAtAnyOfTheirBoundariesAreRefusedByName) {
  const SpoiltHub hub;
  const std::string whole = hub.read("model.safetensors");
  uint64_t table = 0;
  std::memcpy(&table, whole.data(), sizeof table);
  const FixtureJson tensors = FixtureJson::parse(whole.substr(8, table));
  std::vector<uint64_t> ends = {1, 7, 8, 9, 7 + table, 8 + table};
  for (const auto& [name, tensor] : tensors.items()) {
    if (!tensor.contains("data_offsets")) continue;
    ends.push_back(8 + table + tensor["data_offsets"][0].get<uint64_t>());
    ends.push_back(8 + table + tensor["data_offsets"][1].get<uint64_t>() - 1);
  }
  for (const uint64_t end : ends) {
    hub.write("model.safetensors", whole.substr(0, end));
    EXPECT_TRUE(refused(pack_image(hub.path(), memory_room()), kBad, "model.safetensors")) << end;
  }
}

TEST(BadHub, ALengthOfTheOtherByteOrderIsRefused) {
  const SpoiltHub hub;
  std::string bytes = hub.read("model.safetensors");
  std::reverse(bytes.begin(), bytes.begin() + 8);
  hub.write("model.safetensors", bytes);
  EXPECT_TRUE(refused(pack_image(hub.path(), memory_room()), kBad, "table of tensors"));
}

TEST(BadHub, AShapeAgainstTheConfigurationNamesItsTensor) {
  const SpoiltHub hub;
  hub.edit("config.json", [](FixtureJson& all) { all["intermediate_size"] = 96; });
  EXPECT_TRUE(refused(pack_image(hub.path(), memory_room()), kBad, "mlp."));
}

TEST(BadHub, AVocabularyLargerThanTheEmbeddingIsNamed) {
  const SpoiltHub hub;
  hub.edit("config.json", [](FixtureJson& all) { all["vocab_size"] = 705; });
  EXPECT_TRUE(refused(pack_image(hub.path(), memory_room()), kBad, "705"));
}

TEST(BadHub, ATemplateThatNobodyKnowsIsShown) {
  const SpoiltHub hub;
  hub.edit("tokenizer_config.json",
           [](FixtureJson& all) { all["chat_template"] = "{{ alpaca }}\n\x1b[2J"; });
  const auto packed = pack_image(hub.path(), memory_room());
  EXPECT_TRUE(refused(packed, kUnsupported, "{{ alpaca }}\\x0a\\x1b"));
  EXPECT_TRUE(refused(packed, kUnsupported, "--chat-format"));
}

TEST(BadHub, AbsurdSizesOfTheConfigurationAreNamed) {
  for (const char* key : {"num_hidden_layers", "hidden_size", "intermediate_size",
                          "num_attention_heads", "max_position_embeddings"}) {
    for (const FixtureJson& absurd : {FixtureJson(1e15), FixtureJson(4294967295U)}) {
      const SpoiltHub hub;
      hub.edit("config.json", [&](FixtureJson& all) { all[key] = absurd; });
      const auto packed = pack_image(hub.path(), memory_room());
      ASSERT_FALSE(packed) << key;
      EXPECT_TRUE(refused(packed, kBad, "")) << packed.error().message;
    }
  }
}

}  // namespace
}  // namespace polykv
