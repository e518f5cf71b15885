// Layers with a window keep what a later token sees, and a segment that says otherwise is refused.
#include <gtest/gtest.h>

#include "tests/ipc/segments.h"

namespace polykv {
namespace {

using testing::expect_refused;
using testing::Image;
using testing::layer_rows;
using testing::seal_segment;
using testing::spec_of;

// Layers 0 and 1 of three have a window of 40.
KvShape windowed_shape(uint32_t window = 40) { return {3, 2, 64, {.tokens = window, .period = 3}}; }

TEST(SegmentWindows, LayersWithAWindowKeepTheLastRowsThatALaterTokenSees) {
  for (const char* codec : {"k4v4", "k8v3", "f16", "f32", "paper"}) {
    const SegmentSpec spec = spec_of(150, codec, windowed_shape());
    const auto view = SegmentView::open(*seal_segment(spec), Verify::everything);
    ASSERT_TRUE(view) << codec << ": " << view.error().message;
    EXPECT_EQ(view->shape(), spec.shape);
    EXPECT_EQ(view->bytes(), segment_bytes(spec));
    const uint32_t rows[] = {39, 39, 150}, first[] = {111, 111, 0};
    for (uint32_t layer = 0; layer < 3; ++layer) {
      EXPECT_EQ(view->first_token(layer), first[layer]);
      for (uint32_t head = 0; head < 2; ++head) {
        EXPECT_EQ(view->k(layer, head).shape.n_rows, rows[layer]);
        EXPECT_EQ(view->v(layer, head).shape.n_rows, rows[layer]);
      }
    }
    EXPECT_EQ(view->elements(), 2u * 2 * 64 * (39 + 39 + 150));
  }
}

// The tail of a long segment is what a segment of these tokens alone would hold.
TEST(SegmentWindows, RowsOfAWindowAreCodedAsIfTheyWereAll) {
  const SegmentSpec spec = spec_of(150, "k4v4", windowed_shape());
  SegmentSpec tail = spec_of(39, "k4v4", windowed_shape());
  tail.starts_context = false;
  auto builder = SegmentBuilder::create(tail, {});
  ASSERT_TRUE(builder);
  for (uint32_t layer = 0; layer < 3; ++layer) {
    const size_t dropped = size_t{111} * 2 * 64;
    const auto k = layer_rows(spec, layer, PlaneKind::k);
    const auto v = layer_rows(spec, layer, PlaneKind::v);
    builder->put_layer(layer, k.data() + dropped, v.data() + dropped);
  }
  const auto whole = SegmentView::open(*seal_segment(spec), Verify::everything);
  const auto part = SegmentView::open(*std::move(*builder).seal(), Verify::everything);
  ASSERT_TRUE(whole && part);
  for (uint32_t row = 0; row < 39; ++row) {
    std::vector<float> of_whole(64), of_part(64);
    decode_row(whole->k(1, 1), row, of_whole.data());
    decode_row(part->k(1, 1), row, of_part.data());
    ASSERT_EQ(of_whole, of_part) << row;
    decode_row(whole->v(1, 1), row, of_whole.data());
    decode_row(part->v(1, 1), row, of_part.data());
    ASSERT_EQ(of_whole, of_part) << row;
  }
}

TEST(SegmentWindows, OfALayerWithAWindowOnlyTheFirstTokensOfAContextAreExact) {
  const auto sinks = [](uint32_t n_tokens, uint32_t layer) {
    const SegmentSpec spec = spec_of(n_tokens, "k4v4", windowed_shape());
    const auto view = SegmentView::open(*seal_segment(spec), Verify::everything);
    EXPECT_TRUE(view) << view.error().message;
    return view->k(layer, 0).shape.n_sinks;
  };
  EXPECT_EQ(sinks(39, 0), 4u);  // all 39 are kept
  EXPECT_EQ(sinks(40, 0), 3u);
  EXPECT_EQ(sinks(42, 0), 1u);
  EXPECT_EQ(sinks(43, 0), 0u);
  EXPECT_EQ(sinks(43, 2), 4u);
  EXPECT_EQ(sinks(2, 0), 2u);
}

TEST(SegmentWindows, OfAWindowsLengthAndAroundItWorks) {
  for (const uint32_t window : {2u, 3u, 64u, 0xffffffffu}) {
    for (const uint32_t n : {1u, 2u, 62u, 63u, 64u, 65u}) {
      const SegmentSpec spec = spec_of(n, "k4v4", windowed_shape(window));
      const auto view = SegmentView::open(*seal_segment(spec), Verify::everything);
      ASSERT_TRUE(view) << window << " " << n << ": " << view.error().message;
      EXPECT_EQ(view->k(0, 0).shape.n_rows, std::min(n, window - 1));
    }
  }
}

TEST(SegmentWindows, ReportsTheBitsOfWhatAWindowLeavesInIt) {
  const SegmentSpec spec = spec_of(300, "k4v4", windowed_shape());
  const auto view = SegmentView::open(*seal_segment(spec), Verify::header);
  EXPECT_DOUBLE_EQ(view->bits_per_element(), static_cast<double>(view->memory().data().size()) * 8 /
                                                 (2.0 * 2 * 64 * (39 + 39 + 300)));
}

TEST(SegmentWindows, WindowsThatContradictTheRowsAreRefused) {
  const Image good = Image::of(spec_of(70, "k4v4", windowed_shape()));
  ASSERT_TRUE(good.open(Verify::everything));
  const auto with = [&](auto change) { return good.with(change); };
  using Header = SegmentHeader&;
  using Table = std::vector<PlaneEntry>&;
  expect_refused(with([](Header h, Table) { h.windows = {}; }),
                 "plane 1's n_rows is 39, wanted 70");
  expect_refused(with([](Header h, Table) { h.windows.tokens = 41; }),
                 "plane 1's n_rows is 39, wanted 40");
  expect_refused(with([](Header h, Table) { h.windows.period = 0; }),
                 "plane 9's n_rows is 70, wanted 39");
  expect_refused(with([](Header h, Table) { h.windows.period = 2; }),
                 "plane 5's n_rows is 39, wanted 70");
  expect_refused(with([](Header h, Table) { h.windows.tokens = 1; }), "window is 1 token");
  expect_refused(with([](Header h, Table) { h.windows.tokens = 0; }), "window period is 3");
  expect_refused(with([](Header, Table t) { t[2].n_rows = 70; }), "plane 2's n_rows is 70");
  expect_refused(with([](Header, Table t) { t[1].n_sinks = 4; }),
                 "plane 1's n_sinks is 4, wanted 0");
  expect_refused(with([](Header h, Table) { h.reserved1[0] = 1; }), "reserved header field");
}

}  // namespace
}  // namespace polykv
