// Filling and sealing of a new segment.
#include <algorithm>
#include <cstring>

#include "ipc/segment_plan.h"

namespace polykv {

Result<SegmentBuilder> SegmentBuilder::create(const SegmentSpec& spec, const MemoryRoom& room) {
  SegmentBuilder builder;
  builder.header_ = header_of(spec);
  if (spec.tokens.size() > kSegmentTokensMax) {
    return bad_segment("n_tokens", cat(spec.tokens.size()), cat("1..", kSegmentTokensMax));
  }
  if (auto ok = check_header_fields(builder.header_); !ok) return pass(ok);
  builder.table_ = plan_table(builder.header_, spec.k_codecs);
  builder.put_.resize(builder.header_.n_layers);
  auto memory = SharedBuilder::create("polykv-segment", builder.header_.bytes, room);
  if (!memory) return pass(memory);
  builder.memory_ = std::make_unique<SharedBuilder>(std::move(*memory));
  const PlaneEntry& tokens = builder.table_.front();
  std::memcpy(builder.memory_->data().data() + tokens.offset, spec.tokens.data(), tokens.bytes);
  return builder;
}

void SegmentBuilder::put_layer(uint32_t layer, const float* k, const float* v,
                               const Spread& spread) {
  check(layer < header_.n_layers, "put_layer names a layer that the segment has");
  const uint32_t n_heads = header_.n_kv_heads;
  const auto piece = [&](uint32_t i) {
    i < n_heads ? put_plane(layer, PlaneKind::k, i, k)
                : put_plane(layer, PlaneKind::v, i - n_heads, v);
  };
  if (spread) {
    spread(2 * n_heads, piece);
  } else {
    for (uint32_t i = 0; i < 2 * n_heads; ++i) piece(i);
  }
  put_[layer] = 1;
}

void SegmentBuilder::put_plane(uint32_t layer, PlaneKind kind, uint32_t head, const float* rows) {
  PlaneEntry& entry = table_[index_of(layer, kind, head)];
  std::byte* plane = memory_->data().data() + entry.offset;
  entry.scale_max = encode_head(plane_shape(header_, entry), kept_rows(layer, rows), head, plane);
}

LayerRows SegmentBuilder::kept_rows(uint32_t layer, const float* rows) const {
  const size_t dropped = first_token(layer);
  return {rows + dropped * header_.n_kv_heads * header_.head_dim, header_.n_kv_heads};
}

Status SegmentBuilder::put_watched_layer(uint32_t layer, const float* k, const float* v,
                                         const KeyWatch& watch, const Spread& spread) {
  put_layer(layer, k, v, spread);
  const uint32_t n_heads = header_.n_kv_heads;
  std::vector<PlaneCodec> codecs(n_heads);
  const auto piece = [&](uint32_t head) {
    codecs[head] = codec_for(layer, head, k, watch.queries);
  };
  if (spread) {
    spread(n_heads, piece);
  } else {
    for (uint32_t head = 0; head < n_heads; ++head) piece(head);
  }
  bool wide = false;
  for (uint32_t head = 0; head < n_heads; ++head) {
    wide = wide || codecs[head] != plane(layer, PlaneKind::k, head).shape.codec;
  }
  if (!wide) return {};
  if (Status grown = widen(layer, codecs, watch); !grown) return grown;
  put_layer(layer, k, v, spread);
  return {};
}

// The first codec from the plane's own on that keeps what its pool's codec promises. The plane has
// been put; wider ones are tried in memory of their own.
PlaneCodec SegmentBuilder::codec_for(uint32_t layer, uint32_t head, const float* k,
                                     const QuerySample& queries) const {
  PlaneView put = plane(layer, PlaneKind::k, head);
  const double bound = score_error_bound(static_cast<PlaneCodec>(header_.k_codec));
  PlaneShape shape = put.shape;
  std::vector<std::byte> bytes;
  const LayerRows rows = kept_rows(layer, k);
  while (is_rotated(shape.codec)) {
    const KeyCheck check{put, rows, head, first_token(layer)};
    if (!(score_error(check, queries) > bound)) break;
    shape = plane_shape(
        header_, wanted_entry(header_, index_of(layer, PlaneKind::k, head), wider(shape.codec), 0));
    if (!is_rotated(shape.codec)) break;
    bytes.assign(plane_layout(shape).bytes, std::byte{0});
    const float scale_max = encode_head(shape, rows, head, bytes.data());
    put = plane_view(shape, scale_max, bytes.data());
  }
  return shape.codec;
}

// Moves what is behind the layer's first widened plane, and empties the layer.
Status SegmentBuilder::widen(uint32_t layer, const std::vector<PlaneCodec>& codecs,
                             const KeyWatch& watch) {
  const uint32_t first = index_of(layer, PlaneKind::k, 0);
  const size_t end = first + 2 * codecs.size();
  const uint64_t begin = table_[first].offset;
  const uint64_t written = table_[end - 1].offset + table_[end - 1].bytes - begin;
  SegmentHeader header = header_;
  std::vector<PlaneEntry> table = table_;
  for (size_t head = 0; head < codecs.size(); ++head) {
    table[first + 2 * head].codec = static_cast<uint16_t>(codecs[head]);
  }
  place_planes(header, table, first);
  if (Status room = watch.room(header.bytes - header_.bytes); !room) return room;
  if (Status grown = memory_->grow(header.bytes); !grown) return grown;
  header_ = header;
  table_ = std::move(table);
  std::ranges::fill(memory_->data().subspan(begin, written), std::byte{0});
  return {};
}

uint32_t SegmentBuilder::index_of(uint32_t layer, PlaneKind kind, uint32_t head) const {
  const uint32_t of_v = kind == PlaneKind::v ? 1 : 0;
  return 1 + 2 * (layer * header_.n_kv_heads + head) + of_v;
}

KvShape SegmentBuilder::shape() const { return shape_of(header_); }

CodecSpec SegmentBuilder::codec() const { return codec_of(header_); }

uint32_t SegmentBuilder::first_token(uint32_t layer) const {
  return first_token_of(header_, layer);
}

PlaneView SegmentBuilder::plane(uint32_t layer, PlaneKind kind, uint32_t head) const {
  const PlaneEntry& entry = table_[index_of(layer, kind, head)];
  return plane_view(plane_shape(header_, entry), entry.scale_max,
                    memory_->data().data() + entry.offset);
}

std::vector<WidePlane> SegmentBuilder::wide_planes() const {
  std::vector<WidePlane> wide;
  for (uint32_t layer = 0; layer < header_.n_layers; ++layer) {
    for (uint32_t head = 0; head < header_.n_kv_heads; ++head) {
      add_if_wide(header_, layer, head, plane(layer, PlaneKind::k, head).shape.codec, wide);
    }
  }
  return wide;
}

Result<UniqueFd> SegmentBuilder::seal() && {
  check(std::ranges::count(put_, 0) == 0, "every layer is put before a segment is sealed");
  const std::span<std::byte> bytes = memory_->data();
  for (PlaneEntry& entry : table_) {
    entry.checksum = checksum64(bytes.subspan(entry.offset, entry.bytes));
  }
  header_.table_checksum = table_checksum(table_);
  header_.header_checksum = header_checksum(header_);
  std::memcpy(bytes.data(), &header_, sizeof(header_));
  std::memcpy(bytes.data() + sizeof(header_), table_.data(), table_.size() * sizeof(PlaneEntry));
  return std::move(*memory_).seal();
}

}  // namespace polykv
