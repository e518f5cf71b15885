// Planes for tests: made-up rows, encoded into memory of their own.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "ipc/plane.h"

namespace polykv::testing {

// N(mean of the channel, 1) rows, [n_rows, width]; channels have different means, as K and V have.
inline std::vector<float> made_up_rows(uint32_t n_rows, uint32_t width, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> means(width);
  for (float& mean : means) mean = 0.5f * normal(random);
  std::vector<float> rows(size_t{n_rows} * width);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = means[i % width] + normal(random);
  return rows;
}

// One encoded plane of one head. Its bytes are exactly as long as the layout says.
struct OwnedPlane {
  std::unique_ptr<std::byte[]> bytes;
  uint64_t size = 0;
  PlaneView view;
};

inline OwnedPlane encode_plane(const PlaneShape& shape, const std::vector<float>& rows) {
  OwnedPlane plane;
  plane.size = plane_layout(shape).bytes;
  plane.bytes = std::make_unique<std::byte[]>(plane.size);
  std::byte* const bytes = plane.bytes.get();
  const float scale_max = encode_head(shape, {rows.data(), 1}, 0, bytes);
  plane.view = plane_view(shape, scale_max, bytes);
  return plane;
}

inline std::vector<float> decode(const PlaneView& plane) {
  const uint32_t dim = plane.shape.head_dim;
  std::vector<float> rows(size_t{plane.shape.n_rows} * dim);
  for (uint32_t row = 0; row < plane.shape.n_rows; ++row) {
    decode_row(plane, row, rows.data() + size_t{row} * dim);
  }
  return rows;
}

// |a - b|^2 / |a|^2
inline double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0, energy = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = static_cast<double>(a[i]) - b[i];
    error += difference * difference;
    energy += static_cast<double>(a[i]) * a[i];
  }
  return error / energy;
}

}  // namespace polykv::testing
