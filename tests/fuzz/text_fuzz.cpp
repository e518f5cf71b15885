// UTF-8 and streamed text: the first byte is the size of the pieces, then two stop strings, each
// ended by a zero byte, and the text. How bytes arrive does not change what comes out.
#include "model/text_stream.h"
#include "tests/fuzz/fuzz.h"

using namespace polykv;

namespace {

// Another reading of RFC 3629, by code point: bytes of the character at the text's beginning, 0 if
// there is none.
size_t character(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(0);
  const size_t bytes = first < 0x80   ? 1
                       : first < 0xc0 ? 0
                       : first < 0xe0 ? 2
                       : first < 0xf0 ? 3
                                      : 4;
  if (bytes == 0 || first > 0xf7 || text.size() < bytes) return 0;
  uint32_t code = bytes == 1 ? first : first & (0x7fU >> bytes);
  for (size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3f);
  }
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xd800 && code < 0xe000;
  return code >= kLeast[bytes] && code <= 0x10ffff && !surrogate ? bytes : 0;
}

void check_utf8(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const size_t bytes = character(text.substr(at));
    const Utf8Step step = utf8_step(text, at);
    check((step.state == Utf8State::complete) == (bytes > 0), "a character is one for both");
    check(bytes == 0 || step.bytes == bytes, "and as long");
    if (bytes == 0) break;
    at += bytes;
  }
  const auto invalid = invalid_utf8(text);
  check(invalid ? *invalid == at : at == text.size(), "the first bad byte is the same");
}

std::string streamed(std::string_view text, const std::vector<std::string>& stops, size_t each,
                     bool& stopped) {
  TextStream stream(stops);
  std::string out;
  for (size_t at = 0; at < text.size() && !stream.stopped(); at += each) {
    const std::string part = stream.push(text.substr(at, each));
    check(!invalid_utf8(part), "only whole characters come out");
    out += part;
  }
  out += stream.finish();
  stopped = stream.stopped();
  return out;
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto parts = fuzz::parts_of(fuzz::text_of(data + 1, size - 1), 2);
  const std::string_view text = parts[2];
  check_utf8(text);
  const std::vector<std::string> stops = {std::string(parts[0]), std::string(parts[1])};
  if (invalid_utf8(parts[0]) || invalid_utf8(parts[1])) return 0;  // messages hold UTF-8 only
  bool stopped_whole = false, stopped_parts = false;
  const std::string whole = streamed(text, stops, std::max<size_t>(1, text.size()), stopped_whole);
  const std::string pieces = streamed(text, stops, data[0] % 7 + 1, stopped_parts);
  check(stopped_whole == stopped_parts, "a stop is met however bytes arrive");
  check(whole == pieces, "the text is the same however bytes arrive");
  check(!invalid_utf8(whole), "what comes out is UTF-8");
  for (const std::string& stop : stops) {
    // U+FFFD comes out for what is no character, too.
    check(stop.empty() || invalid_utf8(text) || whole.find(stop) == std::string::npos,
          "a stop string does not come out");
  }
  return 0;
}
