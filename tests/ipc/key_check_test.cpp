// The safety net for K: hard planes are found, no others, and widened until they keep the promise.
#include "ipc/key_check.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <thread>

#include "ipc/pool.h"
#include "tests/ipc/segments.h"

namespace polykv {
namespace {

using testing::made_up_rows;
using testing::spec_of;

constexpr uint32_t kQueryHeads = 6;
const KvShape kShape{4, 3, 64};

struct Queries {
  std::vector<uint32_t> tokens;
  std::vector<float> q;
  QuerySample sample() const { return {tokens, q.data(), kQueryHeads}; }
};

Queries made_up_queries(uint32_t n_tokens, uint32_t step = 37) {
  Queries queries;
  for (uint32_t t = n_tokens - 1; t < n_tokens; t -= step) {
    queries.tokens.insert(queries.tokens.begin(), t);
  }
  queries.q = made_up_rows(static_cast<uint32_t>(queries.tokens.size()), kQueryHeads * 64, 5);
  return queries;
}

// A bias of that size in a pair of dimensions, as RoPE turns it: no mean takes it away.
void plant(std::vector<float>& k, const SegmentSpec& spec, uint32_t head, float size) {
  const uint32_t width = spec.shape.n_kv_heads * spec.shape.head_dim;
  for (uint32_t t = 0; t < spec.tokens.size(); ++t) {
    const float angle = 0.7f * static_cast<float>(t);
    k[t * width + head * 64 + 3] += size * std::cos(angle);
    k[t * width + head * 64 + 35] += size * std::sin(angle);
  }
}

// Outliers of these sizes, [layers * heads], 0 = none.
using Planted = std::vector<float>;

std::vector<float> planted_rows(const SegmentSpec& spec, uint32_t layer, const Planted& planted) {
  auto k = testing::layer_rows(spec, layer, PlaneKind::k);
  for (uint32_t head = 0; head < spec.shape.n_kv_heads; ++head) {
    plant(k, spec, head, planted[layer * spec.shape.n_kv_heads + head]);
  }
  return k;
}

struct Built {
  SegmentView view;
  uint64_t more = 0;  // bytes that were asked for
};

Built build(const SegmentSpec& spec, const Planted& planted, const Spread& spread = {}) {
  const auto n_tokens = static_cast<uint32_t>(spec.tokens.size());
  const Queries queries = made_up_queries(n_tokens);
  Built built;
  const KeyWatch watch{queries.sample(), [&](uint64_t more) -> Status {
                         built.more += more;
                         return {};
                       }};
  auto builder = SegmentBuilder::create(spec, {});
  EXPECT_TRUE(builder);
  for (uint32_t layer = 0; layer < spec.shape.n_layers; ++layer) {
    const auto k = planted_rows(spec, layer, planted);
    const auto v = testing::layer_rows(spec, layer, PlaneKind::v);
    EXPECT_TRUE(builder->put_watched_layer(layer, k.data(), v.data(), watch, spread));
  }
  auto view = SegmentView::open(*std::move(*builder).seal(), Verify::everything);
  EXPECT_TRUE(view) << view.error().message;
  built.view = std::move(*view);
  return built;
}

Planted nothing() { return Planted(size_t{kShape.n_layers} * kShape.n_kv_heads); }

double relative_error(const PlaneView& plane, const LayerRows& exact, uint32_t head) {
  std::vector<float> wanted, got(64), all;
  for (uint32_t row = 0; row < plane.shape.n_rows; ++row) {
    const float* first = exact.values + (size_t{row} * exact.n_heads + head) * 64;
    wanted.insert(wanted.end(), first, first + 64);
    decode_row(plane, row, got.data());
    all.insert(all.end(), got.begin(), got.end());
  }
  return testing::relative_error(wanted, all);
}

TEST(ScoreError, IsTheRootMeanSquareOverQueriesAndTheKeysThatTheySee) {
  const auto rows = made_up_rows(200, 3 * 64, 1);
  const Queries queries = made_up_queries(200);
  const PlaneShape shape{PlaneKind::k, PlaneCodec::rot3, 200, 4, 64};
  std::vector<std::byte> bytes(plane_layout(shape).bytes);
  const float scale_max = encode_head(shape, {rows.data(), 3}, 1, bytes.data());
  const PlaneView plane = plane_view(shape, scale_max, bytes.data());
  double squares = 0;
  uint64_t n = 0;
  for (uint32_t row = 4; row < 200; ++row) {
    std::vector<float> decoded(64);
    decode_row(plane, row, decoded.data());
    for (size_t i = 0; i < queries.tokens.size(); ++i) {
      for (uint32_t head = 2; queries.tokens[i] >= row && head < 4; ++head, ++n) {
        double moved = 0;
        for (uint32_t d = 0; d < 64; ++d) {
          const double off = double{decoded[d]} - rows[(row * 3 + 1) * 64 + d];
          moved += queries.q[(i * kQueryHeads + head) * 64 + d] * off;
        }
        squares += moved * moved / 64;
      }
    }
  }
  const double wanted = std::sqrt(squares / static_cast<double>(n));
  EXPECT_GT(wanted, 0.1);
  EXPECT_NEAR(score_error({plane, {rows.data(), 3}, 1, 0}, queries.sample()), wanted, 1e-5);
}

TEST(ScoreError, IsNothingWhereNoQuerySeesACodedRow) {
  const auto rows = made_up_rows(8, 3 * 64, 1);
  const PlaneShape shape{PlaneKind::k, PlaneCodec::rot2, 8, 4, 64};
  std::vector<std::byte> bytes(plane_layout(shape).bytes);
  const float scale_max = encode_head(shape, {rows.data(), 3}, 0, bytes.data());
  const PlaneView plane = plane_view(shape, scale_max, bytes.data());
  Queries queries{{3}, made_up_rows(1, kQueryHeads * 64, 2)};
  EXPECT_EQ(score_error({plane, {rows.data(), 3}, 0, 0}, queries.sample()), 0);
  queries.tokens = {4};
  EXPECT_GT(score_error({plane, {rows.data(), 3}, 0, 0}, queries.sample()), 0);
}

TEST(ScoreErrorBound, FallsWithTheWidthToWhatNeedsNoMore) {
  constexpr PlaneCodec kWidths[] = {PlaneCodec::rot2, PlaneCodec::rot3, PlaneCodec::rot4,
                                    PlaneCodec::rot5, PlaneCodec::rot6, PlaneCodec::rot8};
  for (size_t i = 0; i + 1 < std::size(kWidths); ++i) {
    EXPECT_GT(score_error_bound(kWidths[i]), score_error_bound(kWidths[i + 1]));
    EXPECT_EQ(wider(kWidths[i]), kWidths[i + 1]);
  }
  EXPECT_NEAR(score_error_bound(PlaneCodec::rot4), 0.98, 0.01);
  EXPECT_EQ(score_error_bound(PlaneCodec::rot8), 0.25);
  EXPECT_EQ(wider(PlaneCodec::rot8), PlaneCodec::f16);
  for (const PlaneCodec codec : {PlaneCodec::f16, PlaneCodec::f32, PlaneCodec::paper_k8}) {
    EXPECT_EQ(score_error_bound(codec), std::numeric_limits<double>::infinity());
  }
}

TEST(WatchedLayers, WithoutOutliersAreThoseThatNobodyWatches) {
  for (const char* codec : {"k2v4", "k3v3", "k4v4", "k5v5", "k6v6", "k8v3", "f16", "paper"}) {
    const SegmentSpec spec = spec_of(600, codec, kShape);
    const Built built = build(spec, nothing());
    EXPECT_TRUE(built.view.wide_planes().empty()) << codec;
    EXPECT_EQ(built.more, 0u);
    const auto plain = SegmentView::open(*testing::seal_segment(spec), Verify::header);
    EXPECT_EQ(segment_identity(built.view), segment_identity(*plain)) << codec;
  }
}

// A size that 6 bits bring under what 4 bits promise, and one that only f16 does.
TEST(WatchedLayers, PlanesWithPlantedOutliersAreWidenedAndNoOthers) {
  for (uint32_t seed = 1; seed <= 4; ++seed) {
    std::mt19937 random(seed);
    const uint32_t all = kShape.n_layers * kShape.n_kv_heads;
    const auto hard = static_cast<uint32_t>(random() % all);
    const auto harder = static_cast<uint32_t>((hard + 1 + random() % (all - 1)) % all);
    Planted planted = nothing();
    planted[hard] = 200, planted[harder] = 3000;
    const SegmentSpec spec = spec_of(600, "k4v4", kShape);
    const Built built = build(spec, planted);
    ASSERT_EQ(built.view.wide_planes().size(), 2u) << seed;
    for (uint32_t i = 0; i < all; ++i) {
      const uint32_t layer = i / 3, head = i % 3;
      const PlaneCodec wanted = i == hard     ? PlaneCodec::rot6
                                : i == harder ? PlaneCodec::f16
                                              : PlaneCodec::rot4;
      const PlaneView& plane = built.view.k(layer, head);
      EXPECT_EQ(plane.shape.codec, wanted) << seed << ": " << i;
      EXPECT_EQ(built.view.v(layer, head).shape.codec, PlaneCodec::rot4);
      const auto k = planted_rows(spec, layer, planted);
      const auto v = testing::layer_rows(spec, layer, PlaneKind::v);
      EXPECT_LT(relative_error(plane, {k.data(), 3}, head), 0.012);
      EXPECT_LT(relative_error(built.view.v(layer, head), {v.data(), 3}, head), 0.012);
      EXPECT_LE(score_error({plane, {k.data(), 3}, head, 0}, made_up_queries(600).sample()),
                score_error_bound(PlaneCodec::rot4));
    }
    EXPECT_EQ(built.view.bytes(), segment_bytes(spec) + built.more);
    EXPECT_EQ(built.view.codec(), spec.codec);
    EXPECT_GT(built.view.bits_per_element(), 4.2);
  }
}

TEST(WatchedLayers, AreTheSameHoweverTheWorkIsSpread) {
  const Spread backwards_on_threads = [](uint32_t n, const std::function<void(uint32_t)>& piece) {
    std::vector<std::jthread> threads;
    for (uint32_t i = n; i-- > 0;) threads.emplace_back([&piece, i] { piece(i); });
  };
  Planted planted = nothing();
  planted[1] = 200, planted[2] = 400, planted[11] = 3000;
  const SegmentSpec spec = spec_of(300, "k4v3", kShape);
  EXPECT_EQ(segment_identity(build(spec, planted).view),
            segment_identity(build(spec, planted, backwards_on_threads).view));
}

TEST(WatchedLayers, OutliersThatAWindowDropsDoNotCount) {
  SegmentSpec spec = spec_of(300, "k4v4", kShape);
  spec.shape.windows = {.tokens = 64, .period = 0};
  const auto with = [&](uint32_t first, uint32_t last) {
    SegmentSpec part = spec;
    part.tokens.resize(last);
    auto outliers = std::vector<float>(size_t{300} * 3 * 64);
    plant(outliers, part, 1, 3000);
    std::fill_n(outliers.begin(), size_t{first} * 3 * 64, 0.0f);
    auto builder = SegmentBuilder::create(spec, {});
    const Queries queries = made_up_queries(300, 5);
    const KeyWatch watch{queries.sample(), [](uint64_t) -> Status { return {}; }};
    auto k = testing::layer_rows(spec, 0, PlaneKind::k);
    for (size_t i = 0; i < k.size(); ++i) k[i] += outliers[i];
    EXPECT_TRUE(builder->put_watched_layer(0, k.data(), k.data(), watch));
    return builder->wide_planes().size();
  };
  EXPECT_EQ(with(0, 237), 0u);
  EXPECT_EQ(with(237, 300), 1u);
}

TEST(WatchedLayers, AreRefusedWhereThereIsNoRoomForThem) {
  const SegmentSpec spec = spec_of(300, "k4v4", kShape);
  Planted planted = nothing();
  planted[0] = 200;
  auto builder = SegmentBuilder::create(spec, {});
  const auto k = planted_rows(spec, 0, planted);
  const Queries queries = made_up_queries(300);
  const KeyWatch watch{queries.sample(), [](uint64_t more) -> Status {
                         return fail(ErrorCode::memory_limit, "no room", cat(more), "0");
                       }};
  const Status put = builder->put_watched_layer(0, k.data(), k.data(), watch);
  ASSERT_FALSE(put);
  EXPECT_EQ(put.error().code, ErrorCode::memory_limit);
  const uint64_t wide = plane_layout({PlaneKind::k, PlaneCodec::rot6, 300, 4, 64}).bytes;
  const uint64_t plain = plane_layout({PlaneKind::k, PlaneCodec::rot4, 300, 4, 64}).bytes;
  EXPECT_EQ(put.error().value, cat(wide - plain));
}

TEST(KeepWidths, ALaterSegmentTakesAtLeastThoseOfTheEarlierOnes) {
  Planted planted = nothing();
  planted[4] = 200, planted[7] = 3000;
  const Built first = build(spec_of(300, "k4v4", kShape), planted);
  SegmentSpec next = spec_of(100, "k4v4", kShape);
  keep_widths(next, first.view);
  const auto view = SegmentView::open(*testing::seal_segment(next), Verify::everything);
  ASSERT_TRUE(view);
  EXPECT_EQ(view->bytes(), segment_bytes(next));
  EXPECT_EQ(view->k(1, 1).shape.codec, PlaneCodec::rot6);
  EXPECT_EQ(view->k(2, 1).shape.codec, PlaneCodec::f16);
  EXPECT_EQ(view->wide_planes().size(), 2u);
  // Watched, it starts there: 400 needs 6 bits as well, what was easy stays so.
  planted = nothing();
  planted[0] = 200, planted[4] = 200;
  const Built watched = build(next, planted);
  EXPECT_EQ(watched.view.k(0, 0).shape.codec, PlaneCodec::rot6);
  EXPECT_EQ(watched.view.k(1, 1).shape.codec, PlaneCodec::rot6);
  EXPECT_EQ(watched.view.k(2, 1).shape.codec, PlaneCodec::f16);
  EXPECT_EQ(watched.view.bytes(), segment_bytes(next) + watched.more);

  SegmentSpec other = spec_of(100, "f16", kShape);
  keep_widths(other, first.view);
  EXPECT_TRUE(other.k_codecs.empty()) << "f16 is wide enough";
}

}  // namespace
}  // namespace polykv
