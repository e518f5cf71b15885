// The state of a softmax-weighted sum over some tokens, and its associative merge
// (online softmax; FlashInfer's attention state, arXiv 2501.01005, section 2.2).
#pragma once

#include <cstdint>

namespace polykv {

// For one query. Empty: max = -infinity, sum = 0, acc = 0.
struct Partial {
  float* max;  // [1] largest score
  float* sum;  // [1] sum of exp(score - max)
  float* acc;  // [head_dim] sum of exp(score - max) * v
};

void clear(const Partial& state, uint32_t head_dim);
// into = into (+) other; merging an empty state changes nothing. Order matters bitwise: keep it
// fixed.
void merge(const Partial& into, const Partial& other, uint32_t head_dim);
// The same in two steps, for states with more than one accumulator: joins (max, sum) and says by
// what to multiply the accumulators of both sides before adding them.
struct MergeFactors {
  float into, other;
};
MergeFactors merge_weights(float* into_max, float* into_sum, float other_max, float other_sum);
void merge_values(float* into, const float* other, MergeFactors factors, uint32_t n);
// out = acc / sum. REQUIRES: sum > 0.
void normalise(const Partial& state, uint32_t head_dim, float* out);

}  // namespace polykv
