// The end of a file in the image cache: what comes before it is an image (model/image_format.h) and
// its notices, each with a line end. Raise kCacheVersion when the meaning of anything changes.
#pragma once

#include <cstdint>
#include <type_traits>

namespace polykv {

inline constexpr uint64_t kCacheMagic =
    0x00005045454b4b50;  // "PKKEEP" and two zero bytes, little-endian
inline constexpr uint32_t kCacheVersion = 1;
inline constexpr uint64_t kNoticesMax = uint64_t{1} << 17;  // bytes of all of them

struct CacheTrailer {
  uint64_t magic;
  uint32_t version;
  uint32_t trailer_bytes;  // sizeof(CacheTrailer)
  uint64_t image_bytes;
  uint64_t notices_bytes;
  uint8_t place[16];              // ImageSource
  uint8_t state[16];              // the same
  uint8_t image_fingerprint[16];  // as in the image's header
  uint64_t notices_checksum;      // XXH3-64
  uint8_t reserved[24];           // 0
  uint64_t trailer_checksum;      // XXH3-64 of the trailer with this field 0
};
static_assert(sizeof(CacheTrailer) == 120 && std::is_trivially_copyable_v<CacheTrailer>);

}  // namespace polykv
