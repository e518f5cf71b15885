// UTF-8 (RFC 3629), for every text that enters: no overlong forms, surrogates or values past
// U+10FFFF.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace polykv {

enum class Utf8State { complete, cut_short, invalid };

// What begins at a position: a character; the beginning of one that the text's end cuts short; or
// bytes that cannot be part of any (`bytes` is then the part to be replaced by one U+FFFD).
struct Utf8Step {
  Utf8State state;
  size_t bytes;
};
Utf8Step utf8_step(std::string_view text, size_t at);

// Position of the first byte that is not valid UTF-8, or nullopt.
std::optional<size_t> invalid_utf8(std::string_view text);

}  // namespace polykv
