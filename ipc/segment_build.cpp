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
  builder.table_ = plan_table(builder.header_);
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
  const uint32_t n_heads = header_.n_kv_heads;
  const uint32_t of_v = kind == PlaneKind::v ? 1 : 0;
  PlaneEntry& entry = table_[1 + 2 * (layer * n_heads + head) + of_v];
  std::byte* plane = memory_->data().data() + entry.offset;
  const size_t dropped = header_.n_tokens - entry.n_rows;
  const LayerRows kept{rows + dropped * n_heads * header_.head_dim, n_heads};
  entry.scale_max = encode_head(plane_shape(header_, entry), kept, head, plane);
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
