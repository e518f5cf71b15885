// XXH3 checksums and fingerprints: the only file that sees xxHash.
#include "ipc/checksum.h"

#include <xxhash.h>

#include <algorithm>

namespace polykv {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

uint64_t checksum64(std::span<const std::byte> bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

Fingerprint fingerprint128(std::span<const std::byte> bytes) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.data(), bytes.size()));
  Fingerprint result;
  std::copy(std::begin(canonical.digest), std::end(canonical.digest), result.begin());
  return result;
}

std::string to_hex(const Fingerprint& fingerprint) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const uint8_t byte : fingerprint) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

Result<Fingerprint> fingerprint_from_hex(const std::string& hex) {
  Fingerprint result;
  bool ok = hex.size() == 2 * result.size();
  for (size_t i = 0; ok && i < result.size(); ++i) {
    const int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);
    ok = high >= 0 && low >= 0;
    if (ok) result[i] = static_cast<uint8_t>(high * 16 + low);
  }
  if (ok) return result;
  return fail(ErrorCode::bad_message,
              cat("'", hex.substr(0, 64), "' is not a fingerprint: 32 lower-case hex digits"),
              hex.substr(0, 64), "32 digits");
}

}  // namespace polykv
