// Reading and cutting.
#include "launch/line_reader.h"

#include <unistd.h>

#include <array>

namespace polykv {

std::optional<std::string> LineReader::next() {
  const size_t end = buffer_.find('\n');
  const bool last = ended_ && !buffer_.empty();
  if (end == buffer_.npos && !last) return std::nullopt;
  std::string line = buffer_.substr(0, end);
  buffer_.erase(0, end == buffer_.npos ? end : end + 1);
  if (!line.empty() && line.back() == '\r') line.pop_back();
  return line;
}

Status LineReader::fill() {
  std::array<char, 65536> part{};
  const ssize_t n = ::read(fd_, part.data(), part.size());
  if (n < 0 && errno == EINTR) return {};
  if (n < 0) return fail_errno("reading standard input");
  ended_ = n == 0;
  buffer_.append(part.data(), static_cast<size_t>(n));
  if (buffer_.size() <= kLineBytesMax || buffer_.find('\n') <= kLineBytesMax) return {};
  return fail(ErrorCode::bad_text,
              cat("a line of more than ", kLineBytesMax, " bytes: append long texts to the pool"),
              cat(buffer_.size()), cat(kLineBytesMax));
}

}  // namespace polykv
