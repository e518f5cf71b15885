// The specification of a split's attention, written to be read. Every other kernel is held to it.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "reader/attend.h"

namespace polykv {
namespace {

constexpr uint32_t kDimMax = 256;

double dot(const float* a, const float* b, uint32_t n) {
  double sum = 0;
  for (uint32_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

// q.k for every query and row: in the row's own space, plus q.mean where a mean was removed.
void write_scores(const SplitCall& call, float* scores) {
  const uint32_t dim = call.k->shape.head_dim;
  const uint32_t n = call.row_end - call.row_begin;
  std::array<float, kDimMax> points;
  for (uint32_t i = 0; i < n; ++i) {
    const uint32_t row = call.row_begin + i;
    const double scale = row_points(*call.k, row, points.data());
    const bool rotated = is_row_rotated(*call.k, row);
    for (uint32_t query = 0; query < call.n_queries; ++query) {
      const float* q = (rotated ? call.q_rotated : call.q) + query * dim;
      const double mean = rotated ? call.q_mean[query] : 0.0f;
      scores[query * n + i] = static_cast<float>(scale * dot(q, points.data(), dim) + mean);
    }
  }
}

// scores become exp(score - max).
void write_weights(const SplitCall& call, float* scores) {
  const uint32_t n = call.row_end - call.row_begin;
  for (uint32_t query = 0; query < call.n_queries; ++query, scores += n) {
    const float top = *std::max_element(scores, scores + n);
    double sum = 0;
    for (uint32_t i = 0; i < n; ++i) {
      scores[i] = std::exp(scores[i] - top);
      sum += scores[i];
    }
    call.max[query] = top;
    call.sum[query] = static_cast<float>(sum);
  }
}

void add_scaled(float factor, const float* x, uint32_t n, float* out) {
  for (uint32_t i = 0; i < n; ++i) out[i] += factor * x[i];
}

void add_values(const SplitCall& call, const float* weights) {
  const uint32_t dim = call.v->shape.head_dim;
  const uint32_t n = call.row_end - call.row_begin;
  std::array<float, kDimMax> points;
  for (uint32_t i = 0; i < n; ++i) {
    const uint32_t row = call.row_begin + i;
    const float scale = row_points(*call.v, row, points.data());
    float* acc = is_row_rotated(*call.v, row) ? call.acc_rotated : call.acc;
    for (uint32_t query = 0; query < call.n_queries; ++query) {
      add_scaled(weights[query * n + i] * scale, points.data(), dim, acc + query * dim);
    }
  }
}

// The mean of V belongs to each coded row.
void add_means(const SplitCall& call, const float* weights) {
  const PlaneView& v = *call.v;
  if (v.mean == nullptr) return;
  const uint32_t n = call.row_end - call.row_begin;
  const uint32_t n_plain =
      std::clamp(v.shape.n_sinks, call.row_begin, call.row_end) - call.row_begin;
  for (uint32_t query = 0; query < call.n_queries; ++query, weights += n) {
    double sum = 0;
    for (uint32_t i = n_plain; i < n; ++i) sum += weights[i];
    add_scaled(static_cast<float>(sum), v.mean, v.shape.head_dim,
               call.acc + query * v.shape.head_dim);
  }
}

}  // namespace

void attend_split_ref(const SplitCall& call) {
  const size_t values = size_t{call.n_queries} * call.v->shape.head_dim;
  std::fill_n(call.acc, values, 0.0f);
  std::fill_n(call.acc_rotated, values, 0.0f);
  if (call.row_begin >= call.row_end) {
    std::fill_n(call.max, call.n_queries, -std::numeric_limits<float>::infinity());
    std::fill_n(call.sum, call.n_queries, 0.0f);
    return;
  }
  float* scores = call.scratch;  // [n_queries, rows]
  write_scores(call, scores);
  write_weights(call, scores);
  add_values(call, scores);
  add_means(call, scores);
}

}  // namespace polykv
