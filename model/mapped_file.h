// A regular file mapped read-only: its pages are the page cache's, never private memory.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "ipc/result.h"

namespace polykv {

class MappedFile {
 public:
  // bad_model_file if the path is missing, unreadable, empty or not a regular file.
  static Result<MappedFile> open(const std::string& path);

  std::span<const std::byte> bytes() const { return bytes_; }

  MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~MappedFile();

 private:
  explicit MappedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::span<const std::byte> bytes_;
};

// Unmaps the pages of a part of a mapped file: they stay in the page cache and come back when they
// are read again. REQUIRES: `part` lies in a MappedFile.
void forget_pages(std::span<const std::byte> part);

}  // namespace polykv
