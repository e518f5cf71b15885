// What the fuzz targets share. A target aborts where a promise of a parser is broken; the
// sanitizers see the rest.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/limits.h"
#include "ipc/result.h"
#include "ipc/utf8.h"

namespace polykv::fuzz {

// Memory that a hostile file of a few kilobytes must not exceed.
inline MemoryRoom small_room() { return {.budget = uint64_t{64} << 20}; }

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// A file of these bytes with a path, in memory.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes) : fd_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    check(fd_ >= 0, "a file in memory can be made");
    const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
    check(written == static_cast<ssize_t>(bytes.size()), "a file in memory takes all bytes");
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() { ::close(fd_); }
  std::string path() const { return cat("/proc/self/fd/", fd_); }

 private:
  int fd_;
};

// The input's first `n` parts, each ended by a zero byte, and the rest.
inline std::vector<std::string_view> parts_of(std::string_view input, size_t n) {
  std::vector<std::string_view> parts;
  while (parts.size() < n) {
    const size_t end = std::min(input.find('\0'), input.size());
    parts.push_back(input.substr(0, end));
    input.remove_prefix(std::min(end + 1, input.size()));
  }
  parts.push_back(input);
  return parts;
}

// A refusal has one of the codes that its parser promises, and a sentence.
inline void check_code(const Error& error, std::initializer_list<ErrorCode> codes) {
  check(std::ranges::find(codes, error.code) != codes.end(), error.message.c_str());
  check(!error.message.empty(), "a refusal is a sentence");
}

// Of what others wrote the sentence is fit to be shown, too: of this size, valid UTF-8, without
// control characters (a forged line in a log begins with one).
inline void check_refusal(const Error& error, std::initializer_list<ErrorCode> codes) {
  constexpr size_t kSentenceMax = 4096;
  check_code(error, codes);
  check(error.message.size() <= kSentenceMax, "a refusal is of bounded length");
  check(!invalid_utf8(error.message), "a refusal is UTF-8");
  const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  check(std::ranges::none_of(error.message, control), "a refusal is one line");
}

// Reads every byte, so that a span past its memory is noticed.
inline void touch(std::span<const std::byte> bytes) {
  unsigned sum = 0;
  for (const std::byte byte : bytes) sum += static_cast<unsigned>(byte);
  [[maybe_unused]] volatile unsigned seen = sum;
}

}  // namespace polykv::fuzz

// The one function of a target (libFuzzer's contract).
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
