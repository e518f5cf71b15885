// Opening of a sealed segment: nothing in it is believed before it was checked.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "ipc/segment_plan.h"

namespace polykv {
namespace {

using Bytes = std::span<const std::byte>;

// What tells a segment from anything else, before any other field means something.
Status check_identity(const SegmentHeader& header) {
  if (header.magic != kSegmentMagic) {
    return bad_segment("magic number", cat(header.magic), cat(kSegmentMagic));
  }
  if (header.abi != kSegmentAbi) {
    return bad_segment("ABI", cat(header.abi),
                       cat(kSegmentAbi, ": the segment comes from another version of polykv"));
  }
  if (header.header_bytes != sizeof(SegmentHeader)) {
    return bad_segment("header size", cat(header.header_bytes), cat(sizeof(SegmentHeader)));
  }
  const uint64_t checksum = header_checksum(header);
  if (checksum == header.header_checksum) return {};
  return bad_segment("header checksum", cat(header.header_checksum), cat(checksum));
}

Result<SegmentHeader> read_header(Bytes bytes) {
  SegmentHeader header{};
  if (bytes.size() < sizeof(header)) {
    return bad_segment("size", cat(bytes.size(), " bytes"), cat("at least ", sizeof(header)));
  }
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (auto ok = check_identity(header); !ok) return pass(ok);
  if (header.bytes != bytes.size()) {
    return bad_segment("size in the header", cat(header.bytes),
                       cat(bytes.size(), " bytes of memory"));
  }
  if (auto ok = check_header_fields(header); !ok) return pass(ok);
  return header;
}

Result<std::vector<PlaneEntry>> read_table(const SegmentHeader& header, Bytes bytes) {
  const uint64_t table_bytes = uint64_t{header.n_planes} * sizeof(PlaneEntry);
  if (table_bytes > bytes.size() - sizeof(header)) {
    return bad_segment("size", cat(bytes.size(), " bytes"),
                       cat("at least ", sizeof(header) + table_bytes, " for the plane table"));
  }
  std::vector<PlaneEntry> table(header.n_planes);
  std::memcpy(table.data(), bytes.data() + sizeof(header), table_bytes);
  const uint64_t checksum = table_checksum(table);
  if (checksum == header.table_checksum) return table;
  return bad_segment("table checksum", cat(header.table_checksum), cat(checksum));
}

struct Field {
  const char* name;
  uint64_t value;
  uint64_t wanted;
};

Status check_fields(const std::string& where, std::initializer_list<Field> fields) {
  for (const Field& field : fields) {
    if (field.value != field.wanted) {
      return bad_segment(cat(where, field.name), cat(field.value), cat(field.wanted));
    }
  }
  return {};
}

Status check_scale(const std::string& where, const PlaneEntry& entry) {
  const auto codec = static_cast<PlaneCodec>(entry.codec);
  const bool scaled = is_rotated(codec) || codec == PlaneCodec::paper_k8;
  if (scaled && std::isfinite(entry.scale_max) && entry.scale_max >= 0) return {};
  if (!scaled && entry.scale_max == 0 && !std::signbit(entry.scale_max)) return {};
  return bad_segment(where + "scale_max", cat(entry.scale_max),
                     scaled ? "a finite number, not negative" : "0 for its codec");
}

// Entry `index` against what follows from the header, its own codec and the planes before it.
Status check_entry(const SegmentHeader& header, const PlaneEntry& entry, uint32_t index,
                   uint64_t offset) {
  const std::string where = cat("plane ", index, "'s ");
  const auto codec = static_cast<PlaneCodec>(entry.codec);
  const PlaneEntry wanted = wanted_entry(header, index, codec, offset);
  const Status kind = check_fields(where, {{"kind", entry.kind, wanted.kind}});
  if (!kind) return kind;
  const bool known = index == 0 ? entry.codec == 0 : codec_fits(PlaneKind{entry.kind}, codec);
  if (!known)
    return bad_segment(where + "codec", cat(entry.codec), "a codec that this build knows");
  const Status fields = check_fields(where, {{"layer", entry.layer, wanted.layer},
                                             {"head", entry.head, wanted.head},
                                             {"n_rows", entry.n_rows, wanted.n_rows},
                                             {"n_sinks", entry.n_sinks, wanted.n_sinks},
                                             {"offset", entry.offset, wanted.offset},
                                             {"bytes", entry.bytes, wanted.bytes},
                                             {"position list", entry.positions, 0},
                                             {"reserved0", entry.reserved0, 0},
                                             {"reserved1", entry.reserved1, 0}});
  if (!fields) return fields;
  if (entry.bytes <= header.bytes && entry.offset <= header.bytes - entry.bytes) {
    return check_scale(where, entry);
  }
  return bad_segment(where + "end", cat(entry.offset + entry.bytes), cat("at most ", header.bytes));
}

Status check_table(const SegmentHeader& header, const std::vector<PlaneEntry>& table) {
  uint64_t offset = sizeof(header) + table.size() * sizeof(PlaneEntry);
  for (uint32_t i = 0; i < table.size(); ++i) {
    if (auto ok = check_entry(header, table[i], i, offset); !ok) return ok;
    offset = align_plane(offset + table[i].bytes);
  }
  if (offset == header.bytes) return {};
  return bad_segment("size in the header", cat(header.bytes),
                     cat(offset, ", where its planes end"));
}

Status check_planes(const std::vector<PlaneEntry>& table, Bytes bytes) {
  for (size_t i = 0; i < table.size(); ++i) {
    const uint64_t checksum = checksum64(bytes.subspan(table[i].offset, table[i].bytes));
    if (checksum != table[i].checksum) {
      return bad_segment(cat("plane ", i, "'s checksum"), cat(table[i].checksum), cat(checksum));
    }
    const uint64_t end = table[i].offset + table[i].bytes;
    const Bytes padding = bytes.subspan(end, align_plane(end) - end);
    if (std::ranges::any_of(padding, [](std::byte byte) { return byte != std::byte{0}; })) {
      return bad_segment(cat("padding after plane ", i), "bytes that are not 0", "zeros");
    }
  }
  return {};
}

}  // namespace

Result<SegmentView> SegmentView::open(UniqueFd fd, Verify verify) {
  auto memory = SharedView::map(std::move(fd));
  if (!memory) return pass(memory);
  SegmentView view;
  view.memory_ = std::make_shared<SharedView>(std::move(*memory));
  const Bytes bytes = view.memory_->data();
  const auto header = read_header(bytes);
  if (!header) return pass(header);
  view.header_ = *header;
  const auto table = read_table(*header, bytes);
  if (!table) return pass(table);
  if (auto ok = check_table(*header, *table); !ok) return pass(ok);
  if (verify == Verify::everything) {
    if (auto ok = check_planes(*table, bytes); !ok) return pass(ok);
  }
  view.tokens_ = reinterpret_cast<const uint32_t*>(bytes.data() + table->front().offset);
  for (size_t i = 1; i < table->size(); ++i) {
    const PlaneEntry& entry = (*table)[i];
    view.planes_.push_back(
        plane_view(plane_shape(*header, entry), entry.scale_max, bytes.data() + entry.offset));
  }
  return view;
}

KvShape SegmentView::shape() const { return shape_of(header_); }

CodecSpec SegmentView::codec() const { return codec_of(header_); }

uint64_t SegmentView::elements() const {
  uint64_t rows = 0;
  for (const PlaneView& plane : planes_) rows += plane.shape.n_rows;
  return rows * header_.head_dim;
}

double SegmentView::bits_per_element() const {
  return static_cast<double>(header_.bytes) * 8.0 / static_cast<double>(elements());
}

uint32_t SegmentView::first_token(uint32_t layer) const { return first_token_of(header_, layer); }

std::span<const uint32_t> SegmentView::tokens() const { return {tokens_, header_.n_tokens}; }

const PlaneView& SegmentView::k(uint32_t layer, uint32_t head) const {
  return planes_[(uint64_t{layer} * header_.n_kv_heads + head) * 2];
}

const PlaneView& SegmentView::v(uint32_t layer, uint32_t head) const {
  return planes_[(uint64_t{layer} * header_.n_kv_heads + head) * 2 + 1];
}

std::vector<WidePlane> SegmentView::wide_planes() const {
  std::vector<WidePlane> wide;
  for (uint32_t layer = 0; layer < header_.n_layers; ++layer) {
    for (uint32_t head = 0; head < header_.n_kv_heads; ++head) {
      add_if_wide(header_, layer, head, k(layer, head).shape.codec, wide);
    }
  }
  return wide;
}

}  // namespace polykv
