// Damage that checksums do not show: changes a sealed segment's codes and redoes every checksum.
#pragma once

#include <functional>

#include "ipc/segment.h"

namespace polykv {

// Called with each plane's entry and its bytes; may change the bytes.
using PlaneEdit = std::function<void(const PlaneEntry& entry, std::span<std::byte> plane)>;

// A new sealed segment with the edited planes.
Result<UniqueFd> tamper(const UniqueFd& segment, const PlaneEdit& edit);

// The codes of a plane: after its mean, sinks and scales.
std::span<std::byte> codes_of(const PlaneEntry& entry, uint32_t head_dim,
                              std::span<std::byte> plane);

}  // namespace polykv
