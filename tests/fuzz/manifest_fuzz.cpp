// A pool's manifest in sealed memory. The first byte's lowest bit says whether the checksum is made
// right first; what is accepted seals to the same bytes.
#include <cstddef>
#include <cstring>

#include "ipc/manifest.h"
#include "tests/fuzz/fuzz.h"

using namespace polykv;

namespace {

void reseal(std::span<std::byte> manifest) {
  ManifestHeader header;
  if (manifest.size() < sizeof header) return;
  std::memcpy(&header, manifest.data(), sizeof header);
  header.checksum = 0;
  std::memcpy(manifest.data(), &header, sizeof header);
  header.checksum = checksum64(manifest);
  std::memcpy(manifest.data(), &header, sizeof header);
}

void check_manifest(const Manifest& manifest, std::span<const std::byte> bytes) {
  check(manifest.n_tokens() > 0 && manifest.segment_bytes() > 0, "a manifest is of something");
  auto fd = seal_manifest(manifest, {});
  check(fd.has_value(), "what was read can be written");
  const auto view = SharedView::map(std::move(*fd));
  check(view && std::ranges::equal(view->data(), bytes), "and is the same");
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  std::vector<uint8_t> bytes(data + 1, data + size);
  const auto memory = std::as_writable_bytes(std::span(bytes));
  if ((data[0] & 1) != 0) reseal(memory);
  auto fd = share_bytes("fuzz-manifest", memory, {});
  check(fd.has_value(), "small memory can be shared");
  const auto manifest = read_manifest(std::move(*fd));
  if (manifest) {
    check_manifest(*manifest, memory);
  } else {
    fuzz::check_refusal(manifest.error(), {ErrorCode::bad_segment});
  }
  return 0;
}
