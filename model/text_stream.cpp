// What may be shown of an answer while it is still being written.
#include "model/text_stream.h"

#include <algorithm>
#include <optional>

#include "ipc/utf8.h"

namespace polykv {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD

// The stop string that is complete first, so that the result does not depend on how bytes arrive;
// of those that end together, the one that begins first.
std::optional<size_t> find_stop(std::string_view text, const std::vector<std::string>& stops) {
  size_t best_begin = std::string_view::npos, best_end = std::string_view::npos;
  for (const std::string& stop : stops) {
    const size_t begin = stop.empty() ? std::string_view::npos : text.find(stop);
    if (begin == std::string_view::npos) continue;
    const size_t end = begin + stop.size();
    if (end > best_end || (end == best_end && begin >= best_begin)) continue;
    best_begin = begin;
    best_end = end;
  }
  if (best_begin == std::string_view::npos) return std::nullopt;
  return best_begin;
}

// Bytes at the end of the text that may yet become a stop string.
size_t stop_bytes_begun(std::string_view text, const std::vector<std::string>& stops) {
  size_t most = 0;
  for (const std::string& stop : stops) {
    const size_t longest = stop.empty() ? 0 : std::min(stop.size() - 1, text.size());
    for (size_t n = longest; n > most; --n) {
      if (text.ends_with(std::string_view(stop).substr(0, n))) most = n;
    }
  }
  return most;
}

// Bytes at the end of the text that are the beginning of a character.
size_t character_bytes_begun(std::string_view text) {
  for (size_t n = std::min<size_t>(3, text.size()); n > 0; --n) {
    const size_t at = text.size() - n;
    if (utf8_step(text, at).state == Utf8State::cut_short) return n;
  }
  return 0;
}

}  // namespace

std::string TextStream::release(size_t keep_bytes) {
  const std::string_view text = std::string_view(held_).substr(0, held_.size() - keep_bytes);
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Utf8Step step = utf8_step(text, at);
    out += step.state == Utf8State::complete ? text.substr(at, step.bytes) : kReplacement;
    at += step.bytes;
  }
  held_.erase(0, text.size());
  return out;
}

std::string TextStream::push(std::string_view bytes) {
  if (stopped_) return {};
  held_ += bytes;
  if (const auto stop = find_stop(held_, stops_)) {
    stopped_ = true;
    std::string out = release(held_.size() - *stop);
    held_.clear();
    return out;
  }
  return release(std::max(stop_bytes_begun(held_, stops_), character_bytes_begun(held_)));
}

std::string TextStream::finish() { return stopped_ ? std::string() : release(0); }

}  // namespace polykv
