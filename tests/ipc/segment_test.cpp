// Segments: what is written is what is read, and nothing else is believed.
#include "ipc/segment.h"

#include <gtest/gtest.h>

#include <thread>

#include "ipc/pool.h"
#include "tests/ipc/segments.h"

namespace polykv {
namespace {

using testing::expect_refused;
using testing::Image;
using testing::layer_rows;
using testing::seal_segment;
using testing::spec_of;

TEST(SegmentBuilder, GivesTheSameBytesHoweverTheWorkIsSpread) {
  const SegmentSpec spec = spec_of(100);
  auto builder = SegmentBuilder::create(spec, {});
  ASSERT_TRUE(builder);
  const Spread backwards_on_threads = [](uint32_t n, const std::function<void(uint32_t)>& piece) {
    std::vector<std::jthread> threads;
    for (uint32_t i = n; i-- > 0;) threads.emplace_back([&piece, i] { piece(i); });
  };
  for (uint32_t layer = 0; layer < spec.shape.n_layers; ++layer) {
    const auto k = layer_rows(spec, layer, PlaneKind::k);
    const auto v = layer_rows(spec, layer, PlaneKind::v);
    builder->put_layer(layer, k.data(), v.data(), backwards_on_threads);
  }
  const auto spread = SegmentView::open(*std::move(*builder).seal(), Verify::everything);
  const auto in_turn = SegmentView::open(*seal_segment(spec), Verify::everything);
  ASSERT_TRUE(spread && in_turn);
  EXPECT_EQ(segment_identity(*spread), segment_identity(*in_turn));
}

TEST(Segment, GivesBackWhatWasPutIntoIt) {
  for (const char* codec : {"k4v4", "k8v3", "k2v6", "k5v5", "f16", "f32", "paper"}) {
    SegmentSpec spec = spec_of(150, codec);
    spec.mode = EncodeMode::after_prefix;
    spec.prefix.fill(9);
    spec.provenance = Provenance::committed_turn;
    auto fd = seal_segment(spec);
    ASSERT_TRUE(fd) << fd.error().message;
    const auto view = SegmentView::open(std::move(*fd), Verify::everything);
    ASSERT_TRUE(view) << codec << ": " << view.error().message;
    EXPECT_EQ(view->shape(), spec.shape);
    EXPECT_EQ(view->codec(), spec.codec);
    EXPECT_EQ(view->bytes(), segment_bytes(spec));
    EXPECT_EQ(view->bytes(), view->memory().data().size());
    EXPECT_EQ(view->header().provenance, static_cast<uint32_t>(Provenance::committed_turn));
    EXPECT_EQ(view->header().prefix[0], 9);
    EXPECT_EQ(view->header().model[15], 7);
    EXPECT_TRUE(std::ranges::equal(view->tokens(), spec.tokens));
  }
}

TEST(Segment, PlanesAreThoseOfTheirLayerAndHead) {
  const SegmentSpec spec = spec_of(150);
  const auto view = SegmentView::open(*seal_segment(spec), Verify::everything);
  ASSERT_TRUE(view);
  for (uint32_t layer = 0; layer < 2; ++layer) {
    const auto k = layer_rows(spec, layer, PlaneKind::k);
    const auto v = layer_rows(spec, layer, PlaneKind::v);
    for (uint32_t head = 0; head < 3; ++head) {
      for (uint32_t row = 0; row < 150; row += 49) {
        std::vector<float> got(64);
        const size_t first = (row * 3 + head) * 64;
        decode_row(view->k(layer, head), row, got.data());
        const std::vector<float> k_row(k.begin() + first, k.begin() + first + 64);
        EXPECT_LT(testing::relative_error(k_row, got), 0.03);
        decode_row(view->v(layer, head), row, got.data());
        const std::vector<float> v_row(v.begin() + first, v.begin() + first + 64);
        EXPECT_LT(testing::relative_error(v_row, got), 0.03);
      }
    }
  }
}

TEST(Segment, SinksAreThoseOfAContextsStartOnly) {
  SegmentSpec spec = spec_of(100);
  EXPECT_EQ(SegmentView::open(*seal_segment(spec), Verify::header)->header().n_sinks, 4u);
  spec.starts_context = false;
  const auto view = SegmentView::open(*seal_segment(spec), Verify::header);
  EXPECT_EQ(view->header().n_sinks, 0u);
  EXPECT_EQ(view->k(0, 0).shape.n_sinks, 0u);
  EXPECT_EQ(SegmentView::open(*seal_segment(spec_of(100, "f16")), Verify::header)->header().n_sinks,
            0u);
}

TEST(Segment, OfOneTokenWorks) {
  for (const char* codec : {"k4v4", "f32", "paper"}) {
    for (const uint32_t n : {1u, 2u, 3u, 4u, 5u}) {
      const auto view = SegmentView::open(*seal_segment(spec_of(n, codec)), Verify::everything);
      ASSERT_TRUE(view) << codec << " " << n << ": " << view.error().message;
      EXPECT_EQ(view->n_tokens(), n);
    }
  }
}

TEST(Segment, StaysWithinItsBitsPerElementWhateverItsLength) {
  struct Bound {
    const char* codec;
    double bits;
  };
  for (const Bound bound : {Bound{"k4v4", 4.2}, Bound{"k8v3", 5.7}}) {
    for (uint32_t n = 2048; n < 9000; n += n < 2200 ? 1 : 97) {
      const SegmentSpec spec = spec_of(n, bound.codec, {30, 3, 64});
      const double elements = 2.0 * n * 30 * 3 * 64;
      ASSERT_LE(static_cast<double>(segment_bytes(spec)) * 8 / elements, bound.bits) << n;
    }
  }
}

TEST(Segment, ReportsTheBitsOfEverythingInIt) {
  const auto view = SegmentView::open(*seal_segment(spec_of(300)), Verify::header);
  EXPECT_DOUBLE_EQ(view->bits_per_element(), static_cast<double>(view->memory().data().size()) * 8 /
                                                 (2.0 * 300 * 2 * 3 * 64));
}

TEST(SegmentBuilder, RefusesWhatNoReaderWouldAccept) {
  const auto expect = [](const SegmentSpec& spec, const std::string& words) {
    const auto builder = SegmentBuilder::create(spec, {});
    ASSERT_FALSE(builder) << words;
    EXPECT_NE(builder.error().message.find(words), std::string::npos) << builder.error().message;
  };
  expect(spec_of(0), "n_tokens is 0, wanted 1..");
  expect(spec_of(5, "k4v4", {0, 3, 64}), "n_layers is 0");
  expect(spec_of(5, "k4v4", {2, 0, 64}), "n_kv_heads is 0");
  expect(spec_of(5, "k4v4", {2, 3, 80}), "head_dim is 80, wanted 64, 128 or 256");
  expect(spec_of(5, "k4v4", {2, 70000, 64}), "n_kv_heads is 70000");
  expect(spec_of(5, "k4v4", {2, 3, 64, {.tokens = 1}}), "window is 1 token, wanted 0, for none");
  expect(spec_of(5, "k4v4", {2, 3, 64, {.period = 6}}), "window period is 6, wanted 0");
}

TEST(SegmentBuilder, RefusesWhatDoesNotFitTheRoom) {
  MemoryRoom room;
  room.budget = 1000;
  const auto builder = SegmentBuilder::create(spec_of(100), room);
  ASSERT_FALSE(builder);
  EXPECT_EQ(builder.error().code, ErrorCode::memory_limit);
}

TEST(SegmentView, EveryFlippedBitOfHeaderAndTableIsRefused) {
  Image image = Image::of(spec_of(5, "k4v4", {1, 1, 64}));
  ASSERT_TRUE(image.open(Verify::everything));
  const size_t checked = sizeof(SegmentHeader) + image.header().n_planes * sizeof(PlaneEntry);
  for (size_t bit = 0; bit < checked * 8; ++bit) {
    const auto mask = static_cast<std::byte>(1 << (bit % 8));
    image.bytes[bit / 8] ^= mask;
    const auto view = image.open();
    ASSERT_FALSE(view) << "bit " << bit;
    ASSERT_EQ(view.error().code, ErrorCode::bad_segment) << "bit " << bit;
    image.bytes[bit / 8] ^= mask;
  }
}

TEST(SegmentView, EveryChangedByteIsRefusedWhenAllIsVerified) {
  Image image = Image::of(spec_of(9, "k4v4", {1, 1, 64}));
  ASSERT_TRUE(image.open(Verify::everything));
  for (size_t at = 0; at < image.bytes.size(); ++at) {
    image.bytes[at] ^= std::byte{1};
    const auto view = image.open(Verify::everything);
    ASSERT_FALSE(view) << "byte " << at;
    ASSERT_EQ(view.error().code, ErrorCode::bad_segment) << "byte " << at;
    image.bytes[at] ^= std::byte{1};
  }
}

TEST(SegmentView, ChangedCodesAreFoundByTheirPlanesChecksumOnlyWhenAllIsVerified) {
  Image image = Image::of(spec_of(9, "k4v4", {1, 1, 64}));
  const PlaneEntry last = image.table().back();
  image.bytes[last.offset + last.bytes - 1] ^= std::byte{1};
  EXPECT_TRUE(image.open(Verify::header));
  const auto view = image.open(Verify::everything);
  ASSERT_FALSE(view);
  EXPECT_NE(view.error().message.find("checksum"), std::string::npos);
}

TEST(SegmentView, EveryTruncationIsRefused) {
  const Image whole = Image::of(spec_of(5, "k4v4", {1, 1, 64}));
  for (size_t size = 1; size < whole.bytes.size(); size += size < 600 ? 1 : 61) {
    Image cut{{whole.bytes.begin(), whole.bytes.begin() + static_cast<ptrdiff_t>(size)}};
    const auto view = cut.open();
    ASSERT_FALSE(view) << size;
    EXPECT_EQ(view.error().code, ErrorCode::bad_segment);
  }
  Image longer = whole;
  longer.bytes.resize(whole.bytes.size() + 64);
  expect_refused(longer, "size in the header");
}

TEST(SegmentView, SaysWhatItFoundAndWhatItWanted) {
  const Image good = Image::of(spec_of(70));
  const auto with = [&](auto change) { return good.with(change); };
  using Header = SegmentHeader&;
  using Table = std::vector<PlaneEntry>&;
  expect_refused(with([](Header h, Table) { h.magic = 1; }), "magic number is 1");
  expect_refused(with([](Header h, Table) { h.abi = 99; }), "ABI is 99, wanted 3");
  expect_refused(with([](Header h, Table) { h.header_bytes = 128; }), "header size is 128");
  expect_refused(with([](Header h, Table) { h.bytes += 64; }), "size in the header");
  expect_refused(with([](Header h, Table) { h.encode_mode = 2; }), "encode_mode is 2");
  expect_refused(with([](Header h, Table) { h.provenance = 5; }), "provenance is 5");
  expect_refused(with([](Header h, Table) { h.prefix[3] = 1; }), "prefix is set");
  expect_refused(with([](Header h, Table) { h.n_tokens = 0; }), "n_tokens is 0");
  expect_refused(with([](Header h, Table) { h.n_tokens = 0xffffffff; }), "n_tokens is 4294967295");
  expect_refused(with([](Header h, Table) { h.n_layers = 0x80000000; }), "n_layers is 2147483648");
  expect_refused(with([](Header h, Table) { h.n_kv_heads = 257; }), "n_kv_heads is 257");
  expect_refused(with([](Header h, Table) { h.head_dim = 96; }), "head_dim is 96");
  expect_refused(with([](Header h, Table) { h.n_sinks = 5; }), "n_sinks is 5, wanted at most 4");
  expect_refused(with([](Header h, Table) { h.k_codec = 23; }), "k_codec is 23");
  expect_refused(with([](Header h, Table) { h.v_codec = 40; }), "v_codec is 40");
  expect_refused(with([](Header h, Table) { h.reserved1[7] = 1; }), "reserved header field");
  expect_refused(with([](Header h, Table) { h.sign_seed = 0; }), "sign_seed is 0");
  expect_refused(with([](Header, Table t) { t[1].kind = 9; }), "plane 1's kind is 9, wanted 1");
  expect_refused(with([](Header, Table t) { t[0].codec = 1; }), "plane 0's codec is 1");
  expect_refused(with([](Header, Table t) { t[1].codec = 41; }), "plane 1's codec is 41");
  expect_refused(with([](Header, Table t) { t[3].head = 0; }), "plane 3's head is 0, wanted 1");
  expect_refused(with([](Header, Table t) { t[7].layer = 0; }), "plane 7's layer is 0, wanted 1");
  expect_refused(with([](Header, Table t) { t[2].n_rows = 69; }), "plane 2's n_rows is 69");
  expect_refused(with([](Header, Table t) { t[2].n_sinks = 0; }), "plane 2's n_sinks is 0");
  expect_refused(with([](Header, Table t) { t[2].offset += 64; }), "plane 2's offset");
  expect_refused(with([](Header, Table t) { t[2].offset = ~0ull - 63; }), "plane 2's offset");
  expect_refused(with([](Header, Table t) { t[2].bytes -= 1; }), "plane 2's bytes");
  expect_refused(with([](Header, Table t) { t[2].positions = 64; }), "plane 2's position list");
  expect_refused(with([](Header, Table t) { t[2].reserved1 = 1; }), "plane 2's reserved1");
  expect_refused(with([](Header, Table t) { t[2].scale_max = NAN; }), "plane 2's scale_max");
  expect_refused(with([](Header, Table t) { t[2].scale_max = -1; }), "plane 2's scale_max is -1");
  expect_refused(with([](Header, Table t) { t[0].scale_max = 1; }), "plane 0's scale_max is 1");
}

TEST(SegmentView, TooManyPlanesForTheMemoryAreRefusedBeforeTheyAreRead) {
  Image image = Image::of(spec_of(5, "k4v4", {1, 1, 64}));
  SegmentHeader header = image.header();
  header.n_layers = 1024;
  header.n_kv_heads = 256;
  header.n_planes = 1 + 2 * 1024 * 256;
  image.put(header, image.table());
  expect_refused(image, "for the plane table");
}

// The last V plane in f16 instead of 4 bits: nothing else moves but the segment's end.
TEST(SegmentView, PlaneMayHaveACodecOfItsOwn) {
  Image image = Image::of(spec_of(40, "k4v4", {1, 1, 64}));
  SegmentHeader header = image.header();
  auto table = image.table();
  table[2] = wanted_entry(header, 2, PlaneCodec::f16, table[2].offset);
  header.bytes = align_plane(table[2].offset + table[2].bytes);
  image.bytes.resize(header.bytes);
  image.put(header, table);
  const auto view = image.open();
  ASSERT_TRUE(view) << view.error().message;
  EXPECT_EQ(view->k(0, 0).shape.codec, PlaneCodec::rot4);
  EXPECT_EQ(view->v(0, 0).shape.codec, PlaneCodec::f16);
}

TEST(SegmentView, WhatIsNoMemoryIsRefused) {
  EXPECT_FALSE(SegmentView::open(UniqueFd(), Verify::header));
}

TEST(ChainHash, DependsOnPrefixTokensAndOrder) {
  const std::vector<uint32_t> ab = {1, 2}, ba = {2, 1};
  const Fingerprint none{};
  const Fingerprint first = chain_hash(none, ab);
  EXPECT_NE(first, chain_hash(none, ba));
  EXPECT_NE(chain_hash(first, ab), first);
  EXPECT_EQ(chain_hash(none, ab), first);
}

}  // namespace
}  // namespace polykv
