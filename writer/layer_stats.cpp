// Sums over rows, in double precision.
#include "writer/layer_stats.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace polykv {
namespace {

constexpr uint32_t kDimMax = 256;

// Sums over the rows of a plane, or of all planes of a layer.
struct Sums {
  double elements = 0, rows = 0;
  double squares = 0;          // of the values
  double squares_of_mean = 0;  // of each channel's mean, times the rows
  double squares_of_error = 0;
  double peaks = 0;  // largest / root mean square of each rotated row without the mean
  float largest = 0;

  void add(const Sums& other) {
    elements += other.elements, rows += other.rows;
    squares += other.squares, squares_of_mean += other.squares_of_mean;
    squares_of_error += other.squares_of_error, peaks += other.peaks;
    largest = std::max(largest, other.largest);
  }
};

// A plane beside the rows that it was made of.
struct Measured {
  const PlaneView& plane;
  LayerRows exact;
  uint32_t head, first_row;
  const float* row(uint32_t i) const {
    return exact.values + (uint64_t{i} * exact.n_heads + head) * plane.shape.head_dim;
  }
};

std::array<double, kDimMax> mean_of(const Measured& measured) {
  const PlaneShape& shape = measured.plane.shape;
  std::array<double, kDimMax> mean{};
  for (uint32_t i = measured.first_row; i < shape.n_rows; ++i) {
    for (uint32_t d = 0; d < shape.head_dim; ++d) mean[d] += measured.row(i)[d];
  }
  for (double& value : mean) value /= shape.n_rows - measured.first_row;
  return mean;
}

// Largest / root mean square, as the codec sees a row: 1 to sqrt(n).
double peak_of(std::array<float, kDimMax>& row, uint32_t n) {
  const auto signs = sign_vector(n);
  for (uint32_t d = 0; d < n; ++d) row[d] *= signs[d];
  hadamard(row.data(), n);
  double squares = 0, largest = 0;
  for (uint32_t d = 0; d < n; ++d) {
    squares += static_cast<double>(row[d]) * row[d];
    largest = std::max(largest, std::abs(static_cast<double>(row[d])));
  }
  return squares > 0 ? largest / std::sqrt(squares / n) : 1;
}

Sums sums_of(const Measured& measured) {
  const PlaneShape& shape = measured.plane.shape;
  const uint32_t dim = shape.head_dim;
  Sums sums;
  if (measured.first_row >= shape.n_rows) return sums;
  const auto mean = mean_of(measured);
  sums.rows = shape.n_rows - measured.first_row;
  sums.elements = sums.rows * dim;
  for (uint32_t d = 0; d < dim; ++d) sums.squares_of_mean += mean[d] * mean[d] * sums.rows;
  std::array<float, kDimMax> decoded, rest;
  for (uint32_t i = measured.first_row; i < shape.n_rows; ++i) {
    const float* row = measured.row(i);
    decode_row(measured.plane, i, decoded.data());
    for (uint32_t d = 0; d < dim; ++d) {
      const double error = static_cast<double>(decoded[d]) - row[d];
      sums.squares_of_error += error * error;
      sums.squares += static_cast<double>(row[d]) * row[d];
      sums.largest = std::max(sums.largest, std::abs(row[d]));
      rest[d] = static_cast<float>(row[d] - mean[d]);
    }
    sums.peaks += peak_of(rest, dim);
  }
  return sums;
}

// Four digits: a packet holds a model's layers.
double rounded(double value) {
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), "%.4g", std::isfinite(value) ? value : 0.0);
  return std::strtod(text.data(), nullptr);
}

double ratio(double a, double b) { return b > 0 ? a / b : 0; }

// "k_rms", … or "v_rms", …
void set_sums(Message& stats, const std::string& kind, const Sums& sums) {
  const double about_mean = std::max(0.0, sums.squares - sums.squares_of_mean);
  stats.set(kind + "_rms", rounded(std::sqrt(ratio(sums.squares, sums.elements))));
  stats.set(kind + "_largest", rounded(sums.largest));
  stats.set(kind + "_mean_share", rounded(ratio(sums.squares_of_mean, sums.squares)));
  stats.set(kind + "_peak", rounded(ratio(sums.peaks, sums.rows)));
  stats.set(kind + "_error", rounded(std::sqrt(ratio(sums.squares_of_error, about_mean))));
}

struct ScoreSums {
  double squares = 0, worst = 0;
  uint32_t worst_head = 0;
};

}  // namespace

Message layer_stats(const SegmentBuilder& builder, const LayerKv& kv, const QuerySample& queries) {
  const KvShape shape = builder.shape();
  const uint32_t first_token = builder.first_token(kv.layer), n_heads = shape.n_kv_heads;
  const uint32_t first_row = kSinkTokens - std::min(kSinkTokens, first_token);
  const size_t dropped = size_t{first_token} * n_heads * shape.head_dim;
  const LayerRows k_rows{kv.k + dropped, n_heads}, v_rows{kv.v + dropped, n_heads};
  Sums k, v;
  ScoreSums scores;
  for (uint32_t head = 0; head < n_heads; ++head) {
    const PlaneView k_plane = builder.plane(kv.layer, PlaneKind::k, head);
    const PlaneView v_plane = builder.plane(kv.layer, PlaneKind::v, head);
    k.add(sums_of({k_plane, k_rows, head, first_row}));
    v.add(sums_of({v_plane, v_rows, head, first_row}));
    const double error = score_error({k_plane, k_rows, head, first_token}, queries);
    scores.squares += error * error;
    if (error >= scores.worst) scores = {scores.squares, error, head};
  }
  uint32_t wide = 0;
  for (const WidePlane& plane : builder.wide_planes()) wide += plane.layer == kv.layer ? 1 : 0;
  Message stats("layer_stats");
  stats.set("layer", kv.layer).set("rows", builder.n_tokens() - first_token);
  set_sums(stats, "k", k);
  set_sums(stats, "v", v);
  stats.set("score_error", rounded(std::sqrt(scores.squares / n_heads)));
  stats.set("worst_head", scores.worst_head).set("worst_score_error", rounded(scores.worst));
  return stats.set("widened_planes", wide);
}

}  // namespace polykv
