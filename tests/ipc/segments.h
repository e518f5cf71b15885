// Segments for tests: of made-up rows, and as bytes that may be spoiled.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "ipc/segment.h"
#include "ipc/segment_plan.h"
#include "tests/ipc/planes.h"

namespace polykv::testing {

inline SegmentSpec spec_of(uint32_t n_tokens, const char* codec = "k4v4",
                           KvShape shape = {2, 3, 64}) {
  SegmentSpec spec;
  spec.shape = shape;
  spec.codec = *parse_codec(codec);
  spec.model.fill(7);
  for (uint32_t i = 0; i < n_tokens; ++i) spec.tokens.push_back(1000 + i);
  return spec;
}

inline std::vector<float> layer_rows(const SegmentSpec& spec, uint32_t layer, PlaneKind kind) {
  return made_up_rows(static_cast<uint32_t>(spec.tokens.size()),
                      spec.shape.n_kv_heads * spec.shape.head_dim,
                      2 * layer + (kind == PlaneKind::v ? 1 : 0));
}

inline Result<UniqueFd> seal_segment(const SegmentSpec& spec) {
  auto builder = SegmentBuilder::create(spec, {});
  if (!builder) return pass(builder);
  for (uint32_t layer = 0; layer < spec.shape.n_layers; ++layer) {
    const auto k = layer_rows(spec, layer, PlaneKind::k);
    const auto v = layer_rows(spec, layer, PlaneKind::v);
    builder->put_layer(layer, k.data(), v.data());
  }
  return std::move(*builder).seal();
}

// A segment's bytes in memory that a test may spoil.
struct Image {
  std::vector<std::byte> bytes;

  static Image of(const SegmentSpec& spec) {
    auto fd = seal_segment(spec);
    EXPECT_TRUE(fd) << fd.error().message;
    const auto view = SharedView::map(std::move(*fd));
    return {{view->data().begin(), view->data().end()}};
  }
  SegmentHeader header() const {
    SegmentHeader header;
    std::memcpy(&header, bytes.data(), sizeof(header));
    return header;
  }
  std::vector<PlaneEntry> table() const {
    std::vector<PlaneEntry> table(header().n_planes);
    std::memcpy(table.data(), bytes.data() + sizeof(SegmentHeader),
                table.size() * sizeof(PlaneEntry));
    return table;
  }
  // Writes header and table with right checksums: a liar's segment, not an accident's.
  void put(SegmentHeader header, const std::vector<PlaneEntry>& table) {
    header.table_checksum = table_checksum(table);
    header.header_checksum = header_checksum(header);
    std::memcpy(bytes.data(), &header, sizeof(header));
    std::memcpy(bytes.data() + sizeof(header), table.data(), table.size() * sizeof(PlaneEntry));
  }
  // A copy, put after change(header, table).
  template <class Change>
  Image with(Change change) const {
    Image image = *this;
    SegmentHeader changed = header();
    std::vector<PlaneEntry> planes = table();
    change(changed, planes);
    image.put(changed, planes);
    return image;
  }
  Result<SegmentView> open(Verify verify = Verify::header) const {
    auto fd = share_bytes("polykv-test", bytes, {});
    if (!fd) return pass(fd);
    return SegmentView::open(std::move(*fd), verify);
  }
};

inline void expect_refused(const Image& image, const std::string& words) {
  const auto view = image.open();
  ASSERT_FALSE(view) << "accepted, expected: " << words;
  EXPECT_EQ(view.error().code, ErrorCode::bad_segment);
  EXPECT_NE(view.error().message.find(words), std::string::npos) << view.error().message;
}

}  // namespace polykv::testing
