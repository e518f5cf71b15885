// IEEE half precision <-> float, for rows and scales.
#pragma once

#include <cstdint>

namespace polykv {

uint16_t float_to_half(float value);  // round to nearest even; saturates to +-65504; NaN stays NaN
float half_to_float(uint16_t bits);

// The same of n numbers; whatever the instructions, the same bits.
using ToHalves = void (*)(const float* x, uint32_t n, uint16_t* halves);
void to_halves(const float* x, uint32_t n, uint16_t* halves);

}  // namespace polykv
