// Packing by several threads: the same bytes, the same refusals.
#include "model/image_weights.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/model/packed.h"
#include "tests/model/real_model.h"
#include "tests/model/tiny_model.h"

namespace polykv {
namespace {

using test::GgufWriter;

constexpr uint64_t kWideRows = 16 * 1024 + 64;  // several pieces, the last one short

void set_tensor(GgufWriter& file, const std::string& name, GgufType type,
                const std::vector<uint64_t>& shape) {
  test::WrittenTensor& tensor = file.tensor(name);
  tensor.type = static_cast<uint32_t>(type);
  tensor.shape = shape;
  tensor.data = test::tensor_data(type, shape[0] * shape[1], 7);
}

// The feed-forward matrices are cut into pieces; each has another kind of rows.
GgufWriter wide_model() {
  GgufWriter file = test::tiny_model();
  file.u32("llama.feed_forward_length", kWideRows);
  set_tensor(file, "blk.0.ffn_gate.weight", GgufType::q4_1, {64, kWideRows});
  set_tensor(file, "blk.0.ffn_up.weight", GgufType::f32, {64, kWideRows});
  set_tensor(file, "blk.0.ffn_down.weight", GgufType::q8_0, {kWideRows, 64});
  return file;
}

Result<std::string> packed_by(unsigned n_threads, const GgufWriter& file) {
  const test::TempFile on_disk(file.bytes());
  auto fd = pack_image(on_disk.path(), memory_room(), {}, nullptr, "", n_threads);
  if (!fd) return pass(fd);
  auto view = SharedView::map(std::move(*fd));
  if (!view) return pass(view);
  return std::string(reinterpret_cast<const char*>(view->data().data()), view->data().size());
}

TEST(PackWeights, GivesTheSameBytesByAnyNumberOfThreads) {
  const GgufWriter file = wide_model();
  ASSERT_GT(kWideRows * 64 * 4, 3 * kPieceBytes) << "there is something to share";
  const auto alone = packed_by(1, file);
  ASSERT_TRUE(alone) << alone.error().message;
  for (const unsigned n : {2U, 3U, 8U}) EXPECT_EQ(*packed_by(n, file), *alone) << n;
}

TEST(PackWeights, APieceIsWhatTheTensorAloneIs) {
  GgufWriter file = wide_model();
  const ModelImage image = test::mapped(file);
  const std::string& data = file.tensor("blk.0.ffn_up.weight").data;
  const auto* values = reinterpret_cast<const uint16_t*>(image.layer(0).w_up.values);
  for (size_t i = 0; i < kWideRows * 64; i += 63) {
    float wanted, found;
    std::memcpy(&wanted, data.data() + i * 4, 4);
    const uint32_t wide = uint32_t{values[i]} << 16;
    std::memcpy(&found, &wide, 4);
    ASSERT_NEAR(found, wanted, std::abs(wanted) / 256) << i;
  }
}

TEST(PackWeights, NamesTheFirstTensorThatIsBad) {
  GgufWriter file = wide_model();
  const float infinite = INFINITY;
  for (const char* name : {"blk.0.ffn_up.weight", "blk.0.attn_output.weight"}) {
    std::string& data = file.tensor(name).data;
    std::memcpy(data.data() + data.size() - 4, &infinite, 4);  // the last number of the last piece
  }
  for (const unsigned n : {1U, 3U}) {
    const auto refused = packed_by(n, file);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::bad_model_file);
    EXPECT_EQ(refused.error().value, "\"blk.0.attn_output.weight\"") << refused.error().message;
  }
}

}  // namespace
}  // namespace polykv
