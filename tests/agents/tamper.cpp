// Edits a private copy, redoes plane, table and header checksums, seals.
#include "tests/agents/tamper.h"

#include <cstring>

namespace polykv {

std::span<std::byte> codes_of(const PlaneEntry& entry, uint32_t head_dim,
                              std::span<std::byte> plane) {
  const PlaneShape shape{static_cast<PlaneKind>(entry.kind), static_cast<PlaneCodec>(entry.codec),
                         entry.n_rows, entry.n_sinks, head_dim};
  return plane.subspan(plane_layout(shape).codes);
}

Result<UniqueFd> tamper(const UniqueFd& segment, const PlaneEdit& edit) {
  auto own = segment.duplicate();
  if (!own) return pass(own);
  auto view = SharedView::map(std::move(*own));
  if (!view) return pass(view);
  auto copy = SharedBuilder::create("polykv-segment", view->data().size(), memory_room());
  if (!copy) return pass(copy);
  const std::span<std::byte> bytes = copy->data();
  std::memcpy(bytes.data(), view->data().data(), bytes.size());

  SegmentHeader header;
  std::memcpy(&header, bytes.data(), sizeof header);
  const std::span<std::byte> table =
      bytes.subspan(sizeof header, header.n_planes * sizeof(PlaneEntry));
  for (uint32_t i = 0; i < header.n_planes; ++i) {
    PlaneEntry entry;
    std::memcpy(&entry, &table[i * sizeof entry], sizeof entry);
    const std::span<std::byte> plane = bytes.subspan(entry.offset, entry.bytes);
    edit(entry, plane);
    entry.checksum = checksum64(plane);
    std::memcpy(&table[i * sizeof entry], &entry, sizeof entry);
  }
  header.table_checksum = checksum64(table);
  header.header_checksum = checksum64(
      std::as_bytes(std::span(&header, 1)).first(offsetof(SegmentHeader, header_checksum)));
  std::memcpy(bytes.data(), &header, sizeof header);
  return std::move(*copy).seal();
}

}  // namespace polykv
