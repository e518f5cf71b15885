// A model image in sealed memory. The first byte's lowest bit says whether the checksums are made
// right first, as a hostile sender would.
#include <cstring>

#include "ipc/checksum.h"
#include "model/image_format.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/model_checks.h"

using namespace polykv;

namespace {

void reseal(std::span<std::byte> image) {
  if (image.size() < sizeof(ImageHeader)) return;
  ImageHeader header;
  std::memcpy(&header, image.data(), sizeof header);
  header.bytes = image.size();
  const uint64_t begin = header.weights_begin;
  if (begin >= sizeof header && begin <= image.size()) {
    header.tables_checksum = checksum64(image.subspan(sizeof header, begin - sizeof header));
  }
  std::memcpy(image.data(), &header, sizeof header);
  const Fingerprint print = fingerprint128(image.subspan(offsetof(ImageHeader, config)));
  std::memcpy(header.fingerprint, print.data(), print.size());
  header.header_checksum = 0;
  header.header_checksum = checksum64(std::as_bytes(std::span(&header, 1)));
  std::memcpy(image.data(), &header, sizeof header);
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  std::vector<uint8_t> bytes(data + 1, data + size);
  const auto image = std::as_writable_bytes(std::span(bytes));
  const bool sealed_anew = (data[0] & 1) != 0;
  if (sealed_anew) reseal(image);
  auto fd = share_bytes("fuzz-image", image, {});
  check(fd.has_value(), "small memory can be shared");
  const auto mapped = ModelImage::map(std::move(*fd), (data[0] & 2) != 0);
  if (mapped) {
    fuzz::check_image(*mapped);
  } else {
    fuzz::check_refusal(mapped.error(), {ErrorCode::bad_segment});
  }
  return 0;
}
