// A GGUF file that a test wrote, packed into an image, and mapped.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "model/image.h"
#include "tests/model/gguf_writer.h"
#include "tests/model/temp_file.h"

namespace polykv::test {

inline Result<UniqueFd> pack(const GgufWriter& file, std::vector<std::string>* notices = nullptr) {
  const TempFile on_disk(file.bytes());
  return pack_image(on_disk.path(), memory_room(), {}, notices);
}

inline ModelImage mapped(const GgufWriter& file) {
  auto fd = pack(file);
  check(fd.has_value(), fd ? "" : fd.error().message.c_str());
  auto image = ModelImage::map(std::move(*fd), true);
  check(image.has_value(), image ? "" : image.error().message.c_str());
  return std::move(*image);
}

}  // namespace polykv::test
