// What the registry publishes is what an agent opens, and nothing else passes for it.
#include <gtest/gtest.h>

#include "ipc/pool.h"
#include "launch/registry.h"
#include "tests/launch/expect_error.h"
#include "tests/launch/small_segment.h"

namespace polykv {
namespace {

using testing::counted_tokens;
using testing::expect_error;
using testing::kSmallShape;
using testing::small_model;
using testing::small_segment;
using testing::small_spec;

const CodecSpec kCodec = *parse_codec("k4v4");

// A version of two segments, of 40 and 24 tokens.
class OpenedLayout : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::vector<std::byte> image(4096);
    auto fd = share_bytes("polykv-image", image, {});
    ASSERT_TRUE(fd);
    ASSERT_TRUE(registry_.set_image(std::move(*fd), "tiny", to_hex(small_model()), 100));
    for (const uint32_t n_tokens : {40, 24}) {
      auto segment = small_segment(small_spec(counted_tokens(n_tokens), kCodec));
      ASSERT_TRUE(segment) << segment.error().message;
      auto admitted = registry_.admit(std::move(*segment), n_tokens, kCodec);
      ASSERT_TRUE(admitted) << admitted.error().message;
      auto version = registry_.publish("main", kCodec, std::move(*admitted));
      ASSERT_TRUE(version) << version.error().message;
      version_ = std::move(*version);
    }
  }

  static UniqueFd copy(const UniqueFd& fd) {
    auto own = reopen_read_only(fd.get());
    EXPECT_TRUE(own) << own.error().message;
    return own ? std::move(*own) : UniqueFd();
  }
  UniqueFd manifest() const { return copy(version_->manifest_fd); }
  std::vector<UniqueFd> segments() const {
    std::vector<UniqueFd> fds;
    for (const auto& segment : version_->segments) fds.push_back(copy(segment->fd));
    return fds;
  }
  static Result<Layout> open(UniqueFd manifest, std::vector<UniqueFd> segments,
                             const Fingerprint& model = small_model(),
                             const KvShape& shape = kSmallShape) {
    return open_layout(std::move(manifest), std::move(segments), model, shape, Verify::everything);
  }

 private:
  Registry registry_;
  std::shared_ptr<Version> version_;
};

TEST_F(OpenedLayout, holds_the_spans_in_order_at_their_positions) {
  const auto layout = open(manifest(), segments());
  ASSERT_TRUE(layout) << layout.error().message;
  EXPECT_EQ(layout->version, 2u);
  EXPECT_EQ(layout->n_tokens, 64u);
  ASSERT_EQ(layout->spans.size(), 2u);
  EXPECT_EQ(layout->spans[0].segment.n_tokens(), 40u);
  EXPECT_EQ(layout->spans[1].segment.n_tokens(), 24u);
  EXPECT_EQ(layout->spans[1].position_offset, 40);
}

TEST_F(OpenedLayout, segments_in_the_wrong_order_are_refused) {
  auto swapped = segments();
  std::swap(swapped[0], swapped[1]);
  expect_error(open(manifest(), std::move(swapped)), ErrorCode::bad_segment,
               {"not the one that its manifest lists"});
}

TEST_F(OpenedLayout, missing_and_surplus_segments_are_refused_with_both_counts) {
  auto fewer = segments();
  fewer.pop_back();
  expect_error(open(manifest(), std::move(fewer)), ErrorCode::bad_segment,
               {"lists 2 segments, 1 came"});
  auto more = segments();
  more.push_back(std::move(segments()[0]));
  expect_error(open(manifest(), std::move(more)), ErrorCode::bad_segment,
               {"lists 2 segments, 3 came"});
}

TEST_F(OpenedLayout, segment_of_equal_length_with_other_tokens_is_refused) {
  auto others = segments();
  auto other = small_segment(small_spec(std::vector<uint32_t>(24, 9), kCodec));
  ASSERT_TRUE(other) << other.error().message;
  others[1] = std::move(*other);
  expect_error(open(manifest(), std::move(others)), ErrorCode::bad_segment,
               {"not the one that its manifest lists"});
}

TEST_F(OpenedLayout, another_model_or_shape_is_refused) {
  expect_error(open(manifest(), segments(), small_model(0x11)), ErrorCode::fingerprint_mismatch,
               {to_hex(small_model()), to_hex(small_model(0x11))});
  expect_error(open(manifest(), segments(), small_model(), {3, 1, 64}), ErrorCode::bad_segment,
               {"shape"});
  expect_error(open(manifest(), segments(), small_model(), {2, 1, 64, {.tokens = 100}}),
               ErrorCode::bad_segment, {"shape"});
}

// One segment of 40 tokens of a model whose layers have a window of 8; a span of some of them.
Result<Layout> open_windowed(uint32_t token_begin, uint32_t token_end) {
  SegmentSpec spec = small_spec(counted_tokens(40), kCodec);
  spec.shape.windows.tokens = 8;
  auto fd = small_segment(spec);
  if (!fd) return pass(fd);
  const auto view = SegmentView::open(*fd->duplicate(), Verify::everything);
  if (!view) return pass(view);
  ManifestSpan span{};
  span.token_begin = token_begin;
  span.token_end = token_end;
  span.position_offset = -int64_t{token_begin};
  span.segment_bytes = view->bytes();
  std::ranges::copy(segment_identity(*view), span.segment);
  auto manifest = seal_manifest({.version = 1, .model = small_model(), .spans = {span}}, {});
  if (!manifest) return pass(manifest);
  std::vector<UniqueFd> segments;
  segments.push_back(std::move(*fd));
  return open_layout(std::move(*manifest), std::move(segments), small_model(), spec.shape,
                     Verify::everything);
}

TEST(WindowedLayout, span_that_ends_before_its_segment_is_refused) {
  const auto whole = open_windowed(0, 40);
  ASSERT_TRUE(whole) << whole.error().message;
  const auto end = open_windowed(30, 40);
  ASSERT_TRUE(end) << end.error().message;
  EXPECT_EQ(end->n_tokens, 10u);
  expect_error(open_windowed(0, 39), ErrorCode::bad_segment,
               {"ends at token 39 of its segment's 40", "layers with a window"});
}

TEST_F(OpenedLayout, segment_in_the_manifests_place_is_refused) {
  auto fds = segments();
  EXPECT_FALSE(open(std::move(fds[0]), segments()));
}

}  // namespace
}  // namespace polykv
