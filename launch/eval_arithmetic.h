// `polykv eval --arithmetic`: what the agents' integers cost, held against what the codecs cost.
//
// The same tokens are scored twice behind the same pools: by the kernels that agents use, and with
// nothing rounded (weights dequantised, activations, queries and attention weights in f32).
//   codec       KL(f32 pool || the codec's pool), nothing rounded on both sides
//   arithmetic  KL(nothing rounded || the kernels used), over the codec's pool on both sides
// Rounding to integers has to stay under a tenth of what the codec costs, and behind an f32 pool,
// where only activations are rounded, under 1e-6.
#pragma once

#include "launch/eval.h"

namespace polykv {

// Fewer tokens than eval v1: without vectors a token takes a tenth of a second.
inline constexpr uint32_t kArithmeticPrefix = 1024;
inline constexpr uint32_t kArithmeticForced = 128;

Status run_arithmetic(const EvalOptions& options, const std::string& text, int interrupt_fd);

}  // namespace polykv
