// UTF-8 validation (RFC 3629): no overlong forms, surrogates or values past U+10FFFF.
#include "model/tokenizer.h"

namespace polykv {
namespace {

// Bytes of a character by its first byte and the range of its second; 0 = cannot begin a character.
struct Lead {
  size_t bytes;
  unsigned char low;
  unsigned char high;
};

Lead lead_of(unsigned char byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xc2 || byte > 0xf4) return {0, 0, 0};
  if (byte < 0xe0) return {2, 0x80, 0xbf};
  if (byte < 0xf0) {
    return {3, static_cast<unsigned char>(byte == 0xe0 ? 0xa0 : 0x80),
            static_cast<unsigned char>(byte == 0xed ? 0x9f : 0xbf)};
  }
  return {4, static_cast<unsigned char>(byte == 0xf0 ? 0x90 : 0x80),
          static_cast<unsigned char>(byte == 0xf4 ? 0x8f : 0xbf)};
}

}  // namespace

std::optional<size_t> invalid_utf8(std::string_view text) {
  const auto at = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  for (size_t i = 0; i < text.size();) {
    const Lead lead = lead_of(at(i));
    if (lead.bytes == 0 || lead.bytes > text.size() - i) return i;
    if (lead.bytes > 1 && (at(i + 1) < lead.low || at(i + 1) > lead.high)) return i;
    for (size_t k = 2; k < lead.bytes; ++k) {
      if ((at(i + k) & 0xc0) != 0x80) return i;
    }
    i += lead.bytes;
  }
  return std::nullopt;
}

}  // namespace polykv
