// Half precision in plain integer arithmetic, so that every machine gives the same bits.
#include "ipc/half.h"

#include <bit>

namespace polykv {
namespace {

constexpr uint32_t kFloatInfinity = 0x7f800000;
constexpr uint32_t kHalfLargest = 0x7bff;  // 65504

// Rounds to nearest, ties to even, when the low `shift` bits are dropped.
uint32_t round_off(uint32_t value, uint32_t shift) {
  const uint32_t odd = (value >> shift) & 1;
  return (value + (1u << (shift - 1)) - 1 + odd) >> shift;
}

// magnitude: bits of a float below 2^-14, where halves are spaced 2^-24 apart.
uint32_t subnormal_half(uint32_t magnitude) {
  const uint32_t exponent = magnitude >> 23;
  if (exponent < 102) return 0;  // below 2^-25: rounds to zero
  const uint32_t significand = (magnitude & 0x7fffff) | 0x800000;
  return round_off(significand, 126 - exponent);
}

}  // namespace

uint16_t float_to_half(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffff;
  uint32_t half = 0;
  if (magnitude > kFloatInfinity) {
    half = 0x7e00;  // NaN
  } else if (magnitude < 0x38800000) {
    half = subnormal_half(magnitude);
  } else if (magnitude >= 0x477fe000) {  // 65504 and above
    half = kHalfLargest;
  } else {
    half = round_off(magnitude - 0x38000000, 13);
  }
  return static_cast<uint16_t>(sign | half);
}

void to_halves(const float* x, uint32_t n, uint16_t* halves) {
  for (uint32_t i = 0; i < n; ++i) halves[i] = float_to_half(x[i]);
}

float half_to_float(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1f;
  const uint32_t fraction = bits & 0x3ff;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  if (exponent == 31) return std::bit_cast<float>(sign | kFloatInfinity | (fraction << 13));
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (fraction << 13));
}

}  // namespace polykv
