// UTF-8 validation.
#include "ipc/utf8.h"

namespace polykv {
namespace {

// Bytes of a character by its first byte and the range of its second; 0 = cannot begin a character.
struct Lead {
  size_t bytes;
  unsigned char low = 0x80;
  unsigned char high = 0xbf;
};

Lead lead_of(unsigned char byte) {
  if (byte < 0x80) return {1};
  if (byte < 0xc2 || byte > 0xf4) return {0};
  if (byte < 0xe0) return {2};
  if (byte == 0xe0) return {3, 0xa0, 0xbf};
  if (byte == 0xed) return {3, 0x80, 0x9f};
  if (byte < 0xf0) return {3};
  if (byte == 0xf0) return {4, 0x90, 0xbf};
  if (byte == 0xf4) return {4, 0x80, 0x8f};
  return {4};
}

}  // namespace

Utf8Step utf8_step(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const Lead lead = lead_of(byte(at));
  if (lead.bytes == 0) return {Utf8State::invalid, 1};
  for (size_t i = 1; i < lead.bytes; ++i) {
    if (at + i == text.size()) return {Utf8State::cut_short, i};
    const unsigned char low = i == 1 ? lead.low : 0x80;
    const unsigned char high = i == 1 ? lead.high : 0xbf;
    if (byte(at + i) < low || byte(at + i) > high) return {Utf8State::invalid, i};
  }
  return {Utf8State::complete, lead.bytes};
}

std::optional<size_t> invalid_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const Utf8Step step = utf8_step(text, i);
    if (step.state != Utf8State::complete) return i;
    i += step.bytes;
  }
  return std::nullopt;
}

}  // namespace polykv
