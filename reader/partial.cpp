// Merging of attention states.
#include "reader/partial.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace polykv {

void clear(const Partial& state, uint32_t head_dim) {
  *state.max = -std::numeric_limits<float>::infinity();
  *state.sum = 0;
  std::fill_n(state.acc, head_dim, 0.0f);
}

MergeFactors merge_weights(float* into_max, float* into_sum, float other_max, float other_sum) {
  constexpr float kEmpty = -std::numeric_limits<float>::infinity();
  if (other_max == kEmpty) return {1, 0};
  const float top = std::max(*into_max, other_max);
  const MergeFactors factors{*into_max == kEmpty ? 0.0f : std::exp(*into_max - top),
                             std::exp(other_max - top)};
  *into_max = top;
  *into_sum = *into_sum * factors.into + other_sum * factors.other;
  return factors;
}

void merge_values(float* into, const float* other, MergeFactors factors, uint32_t n) {
  if (factors.other == 0.0f) return;                                   // then factors.into is 1
  if (factors.into == 0.0f) return void(std::copy_n(other, n, into));  // and the other way round
  for (uint32_t i = 0; i < n; ++i) into[i] = into[i] * factors.into + other[i] * factors.other;
}

void merge(const Partial& into, const Partial& other, uint32_t head_dim) {
  const MergeFactors factors = merge_weights(into.max, into.sum, *other.max, *other.sum);
  merge_values(into.acc, other.acc, factors, head_dim);
}

void normalise(const Partial& state, uint32_t head_dim, float* out) {
  const float factor = 1.0f / *state.sum;
  for (uint32_t d = 0; d < head_dim; ++d) out[d] = state.acc[d] * factor;
}

}  // namespace polykv
