// Packing a model file into an image, and what mapping promises about it.
#include "model/image.h"

#include <gtest/gtest.h>

#include "model/image_format.h"
#include "model/token_tables.h"
#include "tests/model/packed.h"
#include "tests/model/temp_file.h"
#include "tests/model/tiny_model.h"

namespace polykv {
namespace {

using test::GgufWriter;
using test::mapped;
using test::pack;

float half_at(const std::string& data, size_t at) {
  uint16_t bits;
  std::memcpy(&bits, data.data() + at, 2);
  return half_to_float(bits);
}

// The definition of the format: element `i` of a tensor's data in the file.
float file_value(const test::WrittenTensor& tensor, size_t i) {
  const std::string& data = tensor.data;
  const size_t block = i / 32, in = i % 32;
  const auto nibble = [&](size_t at) {
    const auto byte = static_cast<unsigned char>(data[at + in % 16]);
    return static_cast<float>(in < 16 ? byte & 15 : byte >> 4);
  };
  switch (static_cast<GgufType>(tensor.type)) {
    case GgufType::q4_0:
      return half_at(data, block * 18) * (nibble(block * 18 + 2) - 8);
    case GgufType::q4_1:
      return half_at(data, block * 20) * nibble(block * 20 + 4) + half_at(data, block * 20 + 2);
    case GgufType::q8_0:
      return half_at(data, block * 34) * static_cast<signed char>(data[block * 34 + 2 + in]);
    case GgufType::f16:
      return half_at(data, i * 2);
    default:
      break;
  }
  float value;
  std::memcpy(&value, data.data() + i * 4, 4);
  return value;
}

// The definition of the image: element (row, col) of a weight.
float image_value(const Weight& w, size_t row, size_t col) {
  const size_t i = row * w.n_cols + col;
  const auto* bytes = reinterpret_cast<const unsigned char*>(w.values);
  const size_t block = row / 16 * (w.n_cols / 32) + col / 32;  // groups of 16 rows
  const size_t in = col % 32, lane = row % 16;
  if (w.type == WeightType::w4) {
    const unsigned char byte = bytes[block * 256 + in % 16 / 4 * 64 + lane * 4 + in % 4];
    const float d = half_to_float(w.scales[block * 32 + lane]),
                m = half_to_float(w.scales[block * 32 + 16 + lane]);
    return d * static_cast<float>(in < 16 ? byte & 15 : byte >> 4) + m;
  }
  if (w.type == WeightType::w8) {
    const int code = bytes[block * 512 + in / 4 * 64 + lane * 4 + in % 4] - 128;
    return half_to_float(w.scales[block * 16 + lane]) * static_cast<float>(code);
  }
  uint16_t bits;
  std::memcpy(&bits, bytes + i * 2, 2);
  if (w.type == WeightType::f16) return half_to_float(bits);
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}

void expect_same(GgufWriter& file, const std::string& name, const Weight& w, float relative) {
  const test::WrittenTensor& tensor = file.tensor(name);
  ASSERT_EQ(tensor.shape, (std::vector<uint64_t>{w.n_cols, w.n_rows})) << name;
  for (size_t i = 0; i < size_t{w.n_rows} * w.n_cols; ++i) {
    const float wanted = file_value(tensor, i);
    ASSERT_NEAR(image_value(w, i / w.n_cols, i % w.n_cols), wanted, std::abs(wanted) * relative)
        << name << " element " << i;
  }
}

TEST(Image, EveryTensorKeepsItsValues) {
  GgufWriter file = test::tiny_model();
  const ModelImage image = mapped(file);
  const LayerWeights& layer = image.layer(0);
  constexpr float kRounding = 1e-6F;  // d*q - 8d in two steps
  expect_same(file, "token_embd.weight", image.embedding(), 0);
  expect_same(file, "blk.0.attn_q.weight", layer.wq, kRounding);
  expect_same(file, "blk.0.attn_k.weight", layer.wk, 0);
  expect_same(file, "blk.0.attn_v.weight", layer.wv, 0);
  expect_same(file, "blk.0.attn_output.weight", layer.wo, 1.0F / 256);
  expect_same(file, "blk.0.ffn_gate.weight", layer.w_gate, 0);
  expect_same(file, "blk.0.ffn_up.weight", layer.w_up, kRounding);
  expect_same(file, "blk.0.ffn_down.weight", layer.w_down, 0);
  EXPECT_EQ(layer.wo.type, WeightType::bf16);
  EXPECT_EQ(layer.wv.type, WeightType::f16);
  for (size_t i = 0; i < 64; ++i) {
    EXPECT_EQ(layer.attn_norm[i], file_value(file.tensor("blk.0.attn_norm.weight"), i));
    EXPECT_EQ(layer.ffn_norm[i], file_value(file.tensor("blk.0.ffn_norm.weight"), i));
    EXPECT_EQ(image.output_norm()[i], file_value(file.tensor("output_norm.weight"), i));
  }
}

TEST(Image, ConfigurationAndNamesComeFromTheFile) {
  const ModelImage image = mapped(test::tiny_model());
  const ModelConfig& config = image.config();
  EXPECT_EQ(config.n_layers, 1U);
  EXPECT_EQ(config.n_positions, 128U);
  EXPECT_EQ(config.d_model, 64U);
  EXPECT_EQ(config.d_ff, 96U);
  EXPECT_EQ(config.n_heads, 1U);
  EXPECT_EQ(config.n_kv_heads, 1U);
  EXPECT_EQ(config.head_dim, 64U);
  EXPECT_EQ(config.n_vocab, 16U);
  EXPECT_EQ(config.rope_base, 10000.0F);
  EXPECT_EQ(config.rms_eps, 1e-5F);
  EXPECT_EQ(config.rope_interleaved, 1U);
  EXPECT_EQ(config.tied_head, 1U);
  EXPECT_EQ(image.name(), "tiny");
  EXPECT_EQ(image.chat_format(), "chatml");
  EXPECT_EQ(image.tokenizer().eos, 2U);
}

TEST(Image, TokenTextsAreDecodedAndSpecialNamesStayLiteral) {
  const ModelImage image = mapped(test::tiny_model());
  const TokenizerTables& tables = image.tokenizer();
  EXPECT_EQ(token_text(tables, 7), " ");
  EXPECT_EQ(token_text(tables, 8), "\n");
  EXPECT_EQ(token_text(tables, 13), " ab");
  EXPECT_EQ(find_token(tables, " ab", TokenClass::plain), 13U);
  EXPECT_EQ(find_token(tables, "<|im_end|>", TokenClass::special), 2U);
  EXPECT_EQ(find_token(tables, "<|im_end|>", TokenClass::plain), std::nullopt);
  EXPECT_EQ(find_token(tables, "abc", TokenClass::plain), std::nullopt);
  const auto merge = find_merge(tables, 9, 10);
  ASSERT_TRUE(merge);
  EXPECT_EQ(merge->rank, 2U);
  EXPECT_EQ(merge->result, 11U);
  EXPECT_FALSE(find_merge(tables, 10, 9));
}

TEST(Image, TablesAndWeightsAreReadInPlace) {
  const ModelImage image = mapped(test::tiny_model());
  const auto memory = image.memory().data();
  const auto inside = [&](const void* at) {
    return at >= memory.data() && at < memory.data() + memory.size();
  };
  const TokenizerTables& t = image.tokenizer();
  for (const void* at :
       {static_cast<const void*>(t.text_offsets.data()), static_cast<const void*>(t.texts.data()),
        static_cast<const void*>(t.kinds.data()), static_cast<const void*>(t.text_slots.data()),
        static_cast<const void*>(t.merge_slots.data()), static_cast<const void*>(t.merges.data()),
        static_cast<const void*>(image.embedding().values),
        static_cast<const void*>(image.embedding().scales),
        static_cast<const void*>(image.layer(0).attn_norm),
        static_cast<const void*>(image.name().data())}) {
    EXPECT_TRUE(inside(at));
  }
}

TEST(Image, F32MatricesAreSaidToBecomeBf16) {
  std::vector<std::string> notices;
  ASSERT_TRUE(pack(test::tiny_model(), &notices));
  ASSERT_EQ(notices.size(), 1U);
  EXPECT_NE(notices[0].find("blk.0.attn_output.weight"), std::string::npos);
  EXPECT_NE(notices[0].find("bf16"), std::string::npos);
}

TEST(Image, UntiedHeadIsKeptApart) {
  GgufWriter file = test::tiny_model();
  test::add_tensor(file, "output.weight", GgufType::q4_1, {64, 16});
  const ModelImage image = mapped(file);
  EXPECT_EQ(image.config().tied_head, 0U);
  expect_same(file, "output.weight", image.head(), 0);
  EXPECT_NE(image.head().values, image.embedding().values);
}

TEST(Image, FingerprintFollowsTheContentsNotTheFile) {
  GgufWriter file = test::tiny_model();
  const Fingerprint first = mapped(file).fingerprint();
  EXPECT_EQ(mapped(file).fingerprint(), first);
  GgufWriter weights = file;
  weights.tensor("blk.0.ffn_down.weight").data[40] ^= 1;
  EXPECT_NE(mapped(weights).fingerprint(), first);
  GgufWriter rope = file;
  rope.f32("llama.rope.freq_base", 20000);
  EXPECT_NE(mapped(rope).fingerprint(), first);
  GgufWriter merges = file;
  merges.texts("tokenizer.ggml.merges", {"a b", "c d", "ab cd"});
  EXPECT_NE(mapped(merges).fingerprint(), first);
}

TEST(Image, ProgressEndsAtAll) {
  const test::TempFile on_disk(test::tiny_model().bytes());
  uint64_t last = 0, all = 1;
  const auto progress = [&](uint64_t done, uint64_t of) {
    EXPECT_GE(done, last);
    last = done;
    all = of;
  };
  ASSERT_TRUE(pack_image(on_disk.path(), memory_room(), progress));
  EXPECT_EQ(last, all);
}

TEST(Image, TooLittleRoomIsRefused) {
  const test::TempFile on_disk(test::tiny_model().bytes());
  MemoryRoom room;
  room.budget = 1000;
  const auto fd = pack_image(on_disk.path(), room);
  ASSERT_FALSE(fd);
  EXPECT_EQ(fd.error().code, ErrorCode::memory_limit);
}

}  // namespace
}  // namespace polykv
