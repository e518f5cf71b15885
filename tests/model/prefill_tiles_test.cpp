// Products and attention of a prefill on tiles of bfloat16, against sums in f64.
#include "model/prefill_tiles.h"

#include <cmath>

#include "model/kernels.h"
#include "model/prefill_path.h"
#include "model/prefill_split.h"
#include "model/prefill_tiles_attend.h"
#include "model/weight_layout.h"
#include "tests/model/floats.h"
#include "tests/model/synthetic_weight.h"

namespace polykv {
namespace {

constexpr double kRounded = 1.02 / 512;  // of a product of which one number is rounded

std::vector<float> random_floats(size_t n, uint32_t seed, float scale = 1) {
  auto out = test::random_floats(n, seed);
  for (float& x : out) x *= scale;
  return out;
}

std::vector<float> dequantised(const Weight& w) {
  std::vector<float> rows(size_t{w.n_rows} * w.n_cols);
  for (uint32_t r = 0; r < w.n_rows; ++r) dequantise_row(w, r, &rows[size_t{r} * w.n_cols]);
  return rows;
}

// A sum, and that of magnitudes, which errors are measured by.
struct Sum {
  double value = 0, magnitude = 0;
};
Sum dot(const float* a, const float* b, size_t n) {
  Sum sum;
  for (size_t i = 0; i < n; ++i) {
    sum.value += double{a[i]} * b[i];
    sum.magnitude += std::abs(double{a[i]} * b[i]);
  }
  return sum;
}

ModelConfig config_of(uint32_t d_model, uint32_t d_ff) {
  ModelConfig config;
  config.d_model = d_model;
  config.d_ff = d_ff;
  config.n_heads = 1;
  config.head_dim = d_model;
  return config;
}

class OnTiles : public testing::Test {
 protected:
  void SetUp() override {
    if (!can_split()) GTEST_SKIP() << "no AMX here, or libtorch lacks the product for it";
  }
};
class Products : public OnTiles {};
class TileAttention : public OnTiles {};

constexpr test::WeightShape kShapes[] = {
    {WeightType::w4, 7, 96, 32, 1},    {WeightType::w4, 33, 576, 32, 1},
    {WeightType::w4, 16, 32, 32, 1},   {WeightType::w4, 50, 1536, 32, 1},
    {WeightType::w4, 32, 608, 32, 0},  {WeightType::w8, 7, 96, 32, 0},
    {WeightType::w8, 9, 80, 16, 1},    {WeightType::w8, 9, 48, 16, 0},
    {WeightType::w8, 5, 1536, 32, 1},  {WeightType::w8, 3, 16, 16, 0},
    {WeightType::w8, 64, 1168, 16, 0},
};

TEST_F(Products, AreRightToTheRoundingOfTheirOperandsInEveryShape) {
  for (const test::WeightShape& shape : kShapes) {
    const test::SyntheticWeight made(shape, 3);
    const Weight& w = made.weight();
    const auto rows = dequantised(w);
    ThreadTeam team(2);
    const ModelConfig config = config_of(shape.n_cols, 64);
    TileProducts products(team, config);
    for (const uint32_t n : {1u, 16u, 31u, 33u, 300u}) {
      const auto x = random_floats(size_t{n} * w.n_cols, n);
      std::vector<float> y(size_t{n} * w.n_rows + 1, 7);
      products.multiply(w, x.data(), n, y.data());
      for (size_t i = 0; i < size_t{n} * w.n_rows; ++i) {
        const Sum sum = dot(&rows[i % w.n_rows * w.n_cols], &x[i / w.n_rows * w.n_cols], w.n_cols);
        ASSERT_NEAR(y[i], sum.value, kRounded * sum.magnitude + 1e-5)
            << shape.n_rows << " x " << shape.n_cols << ", block " << shape.block << ", rows " << n;
      }
      EXPECT_EQ(y.back(), 7) << "nothing is written behind the last row";
    }
  }
}

TEST_F(Products, DoNotDependOnRowsAndThreads) {
  const test::SyntheticWeight made({WeightType::w4, 40, 1536, 32, 1}, 4);
  const Weight& w = made.weight();
  const auto x = random_floats(size_t{600} * w.n_cols, 1);
  const ModelConfig config = config_of(w.n_cols, 64);
  std::vector<float> whole(size_t{600} * w.n_rows), other(whole.size());
  ThreadTeam one(1), three(3);
  TileProducts(one, config).multiply(w, x.data(), 600, whole.data());
  TileProducts(three, config).multiply(w, x.data(), 600, other.data());
  EXPECT_EQ(whole, other);
  for (uint32_t begin = 0; begin < 600; begin += 40) {
    TileProducts(three, config)
        .multiply(w, &x[size_t{begin} * w.n_cols], 40, &other[size_t{begin} * w.n_rows]);
  }
  EXPECT_EQ(whole, other);
}

TEST_F(Products, ShowWhatIsNotANumber) {
  const test::SyntheticWeight made({WeightType::w4, 16, 64, 32, 1}, 5);
  auto x = random_floats(size_t{3} * 64, 1);
  x[64 + 5] = std::nanf("");
  std::vector<float> y(48);
  ThreadTeam team(1);
  const ModelConfig config = config_of(64, 64);
  TileProducts(team, config).multiply(made.weight(), x.data(), 3, y.data());
  for (uint32_t i = 0; i < 48; ++i) EXPECT_EQ(std::isnan(y[i]), i / 16 == 1);
}

double activated(const ModelConfig& config, double gate) {
  if (!config.has(kGeglu)) return gate / (1 + std::exp(-gate));
  const double u = std::sqrt(2 / 3.14159265358979) * (gate + 0.044715 * gate * gate * gate);
  return gate * (1 + std::tanh(u)) / 2;
}

TEST_F(Products, OfAFeedForwardBlockAreThoseOfItsParts) {
  constexpr uint32_t kWidth = 96, kHidden = 176, kRows = 70;  // half a step over
  const test::SyntheticWeight gate({WeightType::w8, kHidden, kWidth, 32, 0}, 1);
  const test::SyntheticWeight up({WeightType::w4, kHidden, kWidth, 32, 1}, 2);
  const test::SyntheticWeight down({WeightType::w8, kWidth, kHidden, 16, 0}, 3);
  const auto g = dequantised(gate.weight()), u = dequantised(up.weight());
  const auto d = dequantised(down.weight());
  const auto x = random_floats(size_t{kRows} * kWidth, 9, 0.3f);
  for (const bool gelu : {false, true}) {
    ModelConfig config = config_of(kWidth, kHidden);
    if (gelu) config.features |= kGeglu;
    LayerWeights layer{};
    layer.w_gate = gate.weight(), layer.w_up = up.weight(), layer.w_down = down.weight();
    ThreadTeam team(2);
    std::vector<float> y(size_t{kRows} * kWidth);
    TileProducts(team, config).feed_forward(layer, x.data(), kRows, y.data());
    for (uint32_t m = 0; m < kRows; ++m) {
      std::vector<float> hidden(kHidden);
      for (size_t i = 0; i < kHidden; ++i) {
        const float* row = &x[size_t{m} * kWidth];
        const double in = dot(&g[i * kWidth], row, kWidth).value;
        hidden[i] =
            static_cast<float>(activated(config, in) * dot(&u[i * kWidth], row, kWidth).value);
      }
      for (size_t i = 0; i < kWidth; ++i) {
        const Sum sum = dot(&d[i * kHidden], hidden.data(), kHidden);
        ASSERT_NEAR(y[m * kWidth + i], sum.value, 10 * kRounded * sum.magnitude) << m << " " << i;
      }
    }
  }
}

struct Attended {
  int64_t n, past, n_kv_heads, group, head_dim, window;
};

std::vector<float> attended(const Attended& a, const std::vector<float>& q, std::vector<float> k,
                            std::vector<float> v, unsigned threads) {
  std::vector<float> rows = q;
  ThreadTeam team(threads);
  attend_tiles({.team = team,
                .precision = AttentionPrecision::tiles,
                .n = a.n,
                .past = a.past,
                .n_kv_heads = a.n_kv_heads,
                .group = a.group,
                .head_dim = a.head_dim,
                .window = a.window,
                .k = k.data(),
                .v = v.data(),
                .rows = rows.data()});
  return rows;
}

// What query `row` (of token and head) attends to, as the textbook has it.
std::vector<double> textbook(const Attended& a, const float* q, int64_t token, int64_t kv_head,
                             const std::vector<float>& k, const std::vector<float>& v) {
  const auto d = static_cast<size_t>(a.head_dim);
  const int64_t end = a.past + token + 1;
  const int64_t begin = a.window == 0 ? 0 : std::max<int64_t>(0, end - a.window);
  std::vector<double> out(d);
  double total = 0;
  for (int64_t t = begin; t < end; ++t) {
    const auto at = static_cast<size_t>(t * a.n_kv_heads + kv_head) * d;
    const double p = std::exp(dot(q, &k[at], d).value / std::sqrt(double(d)));
    total += p;
    for (size_t i = 0; i < d; ++i) out[i] += p * v[at + i];
  }
  for (double& x : out) x /= total;
  return out;
}

TEST_F(TileAttention, IsThatOfTheTextbookForEveryShapePastAndWindow) {
  for (const Attended& a : {Attended{1, 0, 1, 1, 32, 0}, Attended{70, 0, 3, 3, 64, 0},
                            Attended{300, 0, 1, 2, 128, 0}, Attended{40, 500, 2, 3, 64, 0},
                            Attended{33, 255, 1, 4, 256, 0}, Attended{600, 0, 1, 1, 64, 100},
                            Attended{40, 600, 2, 2, 64, 17}, Attended{5, 3, 1, 5, 96, 1}}) {
    const auto keys = static_cast<size_t>((a.past + a.n) * a.n_kv_heads * a.head_dim);
    const auto queries = static_cast<size_t>(a.n * a.n_kv_heads * a.group * a.head_dim);
    const auto q = random_floats(queries, 1), k = random_floats(keys, 2);
    const auto v = random_floats(keys, 3);
    const auto out = attended(a, q, k, v, 2);
    const auto d = static_cast<size_t>(a.head_dim);
    for (int64_t row = 0; row < a.n * a.n_kv_heads * a.group; ++row) {
      const int64_t head = row % (a.n_kv_heads * a.group);
      const auto at = static_cast<size_t>(row) * d;
      const auto wanted = textbook(a, &q[at], row / (a.n_kv_heads * a.group), head / a.group, k, v);
      for (size_t i = 0; i < d; ++i) {
        ASSERT_NEAR(out[at + i], wanted[i], 0.03) << a.n << "+" << a.past << " row " << row;
      }
    }
  }
}

TEST_F(TileAttention, DoesNotDependOnThreadsNorOnTheRowsBesideARow) {
  const Attended whole{400, 0, 2, 3, 64, 0}, last{100, 300, 2, 3, 64, 0};
  const auto q = random_floats(size_t{400} * 6 * 64, 1), k = random_floats(size_t{400} * 128, 2);
  const auto v = random_floats(size_t{400} * 128, 3);
  const auto out = attended(whole, q, k, v, 1);
  EXPECT_EQ(out, attended(whole, q, k, v, 3));
  const std::vector<float> behind(q.begin() + 300 * 6 * 64, q.end());
  const std::vector<float> wanted(out.begin() + 300 * 6 * 64, out.end());
  EXPECT_EQ(attended(last, behind, k, v, 2), wanted);
}

TEST_F(TileAttention, TakesScoresOfAnySize) {
  const Attended a{64, 0, 1, 1, 32, 0};
  auto q = random_floats(size_t{64} * 32, 1, 100);
  const auto k = random_floats(size_t{64} * 32, 2, 100), v = random_floats(size_t{64} * 32, 3);
  for (const float x : attended(a, q, k, v, 1)) ASSERT_TRUE(std::isfinite(x));
  std::ranges::fill(q, 0.0f);  // equal scores: the mean of what is seen
  const auto out = attended(a, q, k, v, 1);
  for (size_t i = 0; i < 32; ++i) {
    double mean = 0;
    for (size_t t = 0; t < 64; ++t) mean += v[t * 32 + i] / 64.0;
    EXPECT_NEAR(out[size_t{63} * 32 + i], mean, 0.01);
  }
}

// Broken as a faulty unit or a wrong shuffle would be: one output, one lane, one key.
void lost_output(const Weight& w, const float* x, uint32_t n, float* y) {
  tile_kernels().multiply(w, x, n, y);
  y[size_t{n} * w.n_rows - 1] += 1;
}
void lost_hidden(const ModelConfig& config, const LayerWeights& layer, const float* x, uint32_t n,
                 float* y) {
  ModelConfig other = config;
  other.features ^= kGeglu;
  tile_kernels().feed_forward(other, layer, x, n, y);
}
void lost_key(const PrefillAttention& layer) {
  PrefillAttention other = layer;
  other.window = layer.window == 0 ? layer.past + layer.n - 1 : layer.window;
  tile_kernels().attend(other);
}
void lost_window(const PrefillAttention& layer) {
  PrefillAttention other = layer;
  other.window = 0;
  tile_kernels().attend(other);
}

class TileSelfTest : public OnTiles {};

TEST_F(TileSelfTest, IsPassedByTheTilesAndByNothingThatIsBroken) {
  const TileKernels sound = tile_kernels();
  EXPECT_TRUE(keeps_to_the_specification(sound));
  for (const TileKernels& broken : {TileKernels{lost_output, sound.feed_forward, sound.attend},
                                    TileKernels{sound.multiply, lost_hidden, sound.attend},
                                    TileKernels{sound.multiply, sound.feed_forward, lost_key},
                                    TileKernels{sound.multiply, sound.feed_forward, lost_window}}) {
    EXPECT_FALSE(keeps_to_the_specification(broken));
  }
}

TEST_F(TileSelfTest, DecidesOnlyWhereTilesCouldBeTaken) {
  TileKernels broken = tile_kernels();
  broken.multiply = lost_output;
  Kernels set{};  // by its name alone
  set.name = "amx";
  EXPECT_TRUE(tiles_failed(&set, broken));
  EXPECT_FALSE(tiles_failed(&set));
  set.name = "avx512";
  EXPECT_FALSE(tiles_failed(&set, broken)) << "forced to another set";
  EXPECT_FALSE(tiles_failed(nullptr, broken));
}

// The next precision: exact integers, and libtorch's attention.
TEST_F(TileSelfTest, TilesThatFailedAreNotTaken) {
  Kernels amx{};
  amx.name = "amx";
  PrefillJob job;
  job.precision = PrefillPrecision::fast;
  job.kernels = &amx;
  EXPECT_TRUE(prefill_path(job).tiles);
  job.tiles = false;
  EXPECT_FALSE(prefill_path(job).tiles);
  EXPECT_TRUE(prefill_path(job).packed);
  EXPECT_EQ(prefill_path(job).attention, AttentionPrecision::bfloat16);
}

}  // namespace
}  // namespace polykv
