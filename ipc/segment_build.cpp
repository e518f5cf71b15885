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

void SegmentBuilder::put_layer(uint32_t layer, const float* k, const float* v) {
  check(layer < header_.n_layers, "put_layer names a layer that the segment has");
  put_planes(layer, PlaneKind::k, k);
  put_planes(layer, PlaneKind::v, v);
  put_[layer] = 1;
}

void SegmentBuilder::put_planes(uint32_t layer, PlaneKind kind, const float* rows) {
  const uint32_t n_heads = header_.n_kv_heads;
  const uint32_t first = 1 + 2 * layer * n_heads + (kind == PlaneKind::v ? 1 : 0);
  std::vector<std::byte*> planes(n_heads);
  for (uint32_t head = 0; head < n_heads; ++head) {
    planes[head] = memory_->data().data() + table_[first + 2 * head].offset;
  }
  std::vector<float> scale_max(n_heads);
  encode_layer(plane_shape(header_, table_[first]), n_heads, rows, planes, scale_max.data());
  for (uint32_t head = 0; head < n_heads; ++head) {
    table_[first + 2 * head].scale_max = scale_max[head];
  }
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
