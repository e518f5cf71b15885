// Lines from a descriptor that can be waited for together with others.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include "ipc/result.h"

namespace polykv {

class LineReader {
 public:
  explicit LineReader(int fd) : fd_(fd) {}
  int fd() const { return fd_; }
  // The next whole line that has been read, without its end; at the end also a last one without.
  std::optional<std::string> next();
  // Reads what is there; blocks if that is nothing. bad_text for a line past the limit.
  Status fill();
  bool ended() const { return ended_; }  // nothing more will be read; next() may still have lines

 private:
  int fd_;
  std::string buffer_;
  bool ended_ = false;
};

inline constexpr size_t kLineBytesMax = 900'000;

}  // namespace polykv
