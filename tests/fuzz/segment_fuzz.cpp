// A segment in sealed memory. The first byte's lowest bit says whether the checksums are made right
// first, as a hostile sender would.
#include <cmath>
#include <cstring>

#include "ipc/segment.h"
#include "ipc/segment_plan.h"
#include "tests/fuzz/fuzz.h"

using namespace polykv;

namespace {

using Bytes = std::span<std::byte>;

void reseal(Bytes segment) {
  SegmentHeader header;
  if (segment.size() < sizeof header) return;
  std::memcpy(&header, segment.data(), sizeof header);
  header.bytes = segment.size();
  const uint64_t room = (segment.size() - sizeof header) / sizeof(PlaneEntry);
  if (header.n_planes <= room) {
    std::vector<PlaneEntry> table(header.n_planes);
    std::byte* const at = segment.data() + sizeof header;
    if (!table.empty()) std::memcpy(table.data(), at, table.size() * sizeof(PlaneEntry));
    for (PlaneEntry& entry : table) {
      if (entry.offset > segment.size() || entry.bytes > segment.size() - entry.offset) continue;
      // Planes lie behind the table, so that sealing one does not change another's.
      entry.checksum = checksum64(segment.subspan(entry.offset, entry.bytes));
    }
    if (!table.empty()) std::memcpy(at, table.data(), table.size() * sizeof(PlaneEntry));
    header.table_checksum = table_checksum(table);
  }
  header.header_checksum = header_checksum(header);
  std::memcpy(segment.data(), &header, sizeof header);
}

void check_plane(const PlaneView& plane, const SegmentView& segment, uint32_t layer) {
  const uint32_t dim = segment.header().head_dim;
  check(plane.shape.n_rows == segment.shape().windows.kept(layer, segment.n_tokens()),
        "a plane has a row for each token that a later one sees");
  check(plane.shape.head_dim == dim, "a plane is as wide as the segment's heads");
  const PlaneLayout layout = plane_layout(plane.shape);
  const auto memory = segment.memory().data();
  const auto* const codes = plane.codes;
  check(codes >= memory.data() && layout.bytes <= memory.size() &&
            codes - memory.data() + (layout.bytes - layout.codes) <= memory.size(),
        "a plane lies in the segment");
  std::vector<float> row(dim);
  for (uint32_t i = 0; i < plane.shape.n_rows; ++i) decode_row(plane, i, row.data());
}

// A segment whose planes all have the header's codecs is the one that its writer would plan.
void check_plan(const SegmentView& segment) {
  SegmentSpec spec;
  spec.shape = segment.shape();
  spec.codec = segment.codec();
  spec.starts_context = segment.header().n_sinks > 0;
  spec.tokens.assign(segment.tokens().begin(), segment.tokens().end());
  bool alike = header_of(spec).n_sinks == segment.header().n_sinks;
  for (uint32_t layer = 0; layer < spec.shape.n_layers; ++layer) {
    for (uint32_t head = 0; head < spec.shape.n_kv_heads; ++head) {
      alike &= segment.k(layer, head).shape.codec == spec.codec.k;
      alike &= segment.v(layer, head).shape.codec == spec.codec.v;
    }
  }
  check(!alike || segment_bytes(spec) == segment.bytes(), "a segment is as large as planned");
  check(chain_hash({}, spec.tokens) != Fingerprint{}, "its tokens have a hash");
}

void check_segment(const SegmentView& segment) {
  check_plan(segment);
  const KvShape shape = segment.shape();
  check(segment.bytes() == segment.memory().data().size(), "a segment fills its memory");
  check(segment.tokens().size() == segment.n_tokens(), "a segment has its tokens");
  fuzz::touch(std::as_bytes(segment.tokens()));
  check(segment.elements() == 0 || std::isfinite(segment.bits_per_element()), "elements have bits");
  for (uint32_t layer = 0; layer < shape.n_layers; ++layer) {
    for (uint32_t head = 0; head < shape.n_kv_heads; ++head) {
      check_plane(segment.k(layer, head), segment, layer);
      check_plane(segment.v(layer, head), segment, layer);
    }
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  std::vector<uint8_t> bytes(data + 1, data + size);
  const Bytes segment = std::as_writable_bytes(std::span(bytes));
  if ((data[0] & 1) != 0) reseal(segment);
  auto fd = share_bytes("fuzz-segment", segment, {});
  check(fd.has_value(), "small memory can be shared");
  const Verify verify = (data[0] & 2) != 0 ? Verify::everything : Verify::header;
  const auto opened = SegmentView::open(std::move(*fd), verify);
  if (opened) {
    check_segment(*opened);
  } else {
    fuzz::check_refusal(opened.error(), {ErrorCode::bad_segment});
  }
  return 0;
}
