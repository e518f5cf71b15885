// The bytes of a model image, for tests that change them.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "model/image.h"
#include "model/image_format.h"
#include "tests/model/temp_file.h"
#include "tests/model/tiny_model.h"

namespace polykv::test {

// An image (the tiny model's, if no file is named) as plain bytes that a test may spoil.
struct RawImage {
  std::vector<std::byte> bytes;

  RawImage() : RawImage(TempFile(tiny_model().bytes()).path()) {}
  explicit RawImage(const std::string& path) {
    auto fd = pack_image(path, memory_room());
    check(fd.has_value(), fd ? "" : fd.error().message.c_str());
    auto view = SharedView::map(std::move(*fd));
    check(view.has_value(), "the image maps");
    bytes.assign(view->data().begin(), view->data().end());
  }
  ImageHeader header() const {
    ImageHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    return header;
  }
  SectionRange section(ImageSection name) const {
    return header().sections[static_cast<size_t>(name)];
  }
  template <class T>
  void put(uint64_t at, T value) {
    std::memcpy(bytes.data() + at, &value, sizeof value);
  }
  // Makes the checksums right again, as a hostile sender would.
  void reseal() {
    ImageHeader fixed = header();
    const uint64_t begin = fixed.weights_begin;
    if (begin >= sizeof fixed && begin <= bytes.size()) {
      fixed.tables_checksum =
          checksum64(std::span(bytes).subspan(sizeof fixed, begin - sizeof fixed));
    }
    fixed.header_checksum = 0;
    fixed.header_checksum = checksum64(std::as_bytes(std::span(&fixed, 1)));
    put(0, fixed);
  }
  Result<ModelImage> map(bool verify = false) const {
    auto fd = share_bytes("polykv-test", bytes, memory_room());
    check(fd.has_value(), fd ? "" : fd.error().message.c_str());
    return ModelImage::map(std::move(*fd), verify);
  }
  // As if the model's family had no such feature: its tensors leave the table, too.
  void switch_off(uint32_t feature, std::initializer_list<TensorRole> roles) {
    ImageHeader changed = header();
    changed.config.features &= ~feature;
    auto& table = changed.sections[static_cast<size_t>(ImageSection::tensors)];
    std::vector<TensorEntry> entries(changed.n_tensors);
    std::memcpy(entries.data(), bytes.data() + table.offset, table.bytes);
    std::erase_if(entries, [&](const TensorEntry& entry) {
      return std::ranges::count(roles, static_cast<TensorRole>(entry.role)) > 0;
    });
    changed.n_tensors = static_cast<uint32_t>(entries.size());
    table.bytes = entries.size() * sizeof(TensorEntry);
    std::memcpy(bytes.data() + table.offset, entries.data(), table.bytes);
    put(0, changed);
    reseal();
  }
};

}  // namespace polykv::test
