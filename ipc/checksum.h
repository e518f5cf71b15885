// XXH3 checksums and fingerprints. One definition for segments, images and manifests.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "ipc/result.h"

namespace polykv {

using Fingerprint = std::array<uint8_t, 16>;  // XXH3-128, canonical (big-endian) byte order

uint64_t checksum64(std::span<const std::byte> bytes);
Fingerprint fingerprint128(std::span<const std::byte> bytes);

std::string to_hex(const Fingerprint& fingerprint);  // 32 lower-case digits
Result<Fingerprint> fingerprint_from_hex(const std::string& hex);

}  // namespace polykv
