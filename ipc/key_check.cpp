// Errors of scores, over a sample of queries and keys.
#include "ipc/key_check.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>

namespace polykv {
namespace {

constexpr uint32_t kDimMax = 256;
constexpr double kFar = 40;  // of N(0, 1) nothing lies beyond

// Of SmolLM2's planes the worst errs like scores of 5 about their mean would, the median like 2.6,
// at each width and in each text that was tried (licences, C++). A plane may be twice as bad as the
// worst: what its pool's width costs there is what the pool has to offer.
constexpr double kSpreadAllowed = 10;
// What the median plane there costs at 4 bits: no reason for more, however many were asked for.
constexpr double kErrorAllowed = 0.25;

// Root mean square error of x from N(0, 1) coded by these points c and scaled as rows are, so that
// E[x c] = 1: what E[c^2] then has beyond 1.
double code_error(std::span<const float> book) {
  const auto below = [](double x) { return (1 + std::erf(x / std::numbers::sqrt2)) / 2; };
  const auto density = [](double x) {
    return std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
  };
  double squares = 0, products = 0, reached = 0, density_there = 0;
  for (size_t i = 0; i < book.size(); ++i) {
    const bool last = i + 1 == book.size();
    const double border = last ? kFar : (static_cast<double>(book[i]) + book[i + 1]) / 2;
    squares += (below(border) - reached) * book[i] * book[i];
    products += (density_there - density(border)) * book[i];
    reached = below(border), density_there = density(border);
  }
  return std::sqrt(squares / (products * products) - 1);
}

// Sums in sixteen lanes and one order: fast, and the same everywhere.
float dot(const float* a, const float* b, uint32_t n) {
  std::array<float, 16> lanes{};
  for (uint32_t first = 0; first < n; first += 16) {
    for (size_t i = 0; i < 16; ++i) lanes[i] += a[first + i] * b[first + i];
  }
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

// Key `i` of `n_keys` out of `n_rows`: spread evenly, but at uneven distances, so that no period of
// the text or of RoPE is met at one phase only.
uint32_t sampled_row(uint32_t i, uint32_t n_keys, uint32_t n_rows) {
  if (n_keys == n_rows) return i;
  const double jitter = std::fmod(i * 0.6180339887498949, 1.0);
  return static_cast<uint32_t>((i + jitter) * n_rows / n_keys);
}

}  // namespace

double score_error(const KeyCheck& check, const QuerySample& queries) {
  const PlaneShape& shape = check.plane.shape;
  const uint32_t dim = shape.head_dim, group = queries.n_heads / check.exact.n_heads;
  const uint32_t n_coded = shape.n_rows - shape.n_sinks, n_keys = std::min(n_coded, kCheckedKeys);
  std::array<float, kDimMax> off;
  double squares = 0;
  uint64_t n = 0;
  for (uint32_t i = 0; i < n_keys; ++i) {
    const uint32_t row = shape.n_sinks + sampled_row(i, n_keys, n_coded);
    const float* exact =
        check.exact.values + (uint64_t{row} * check.exact.n_heads + check.head) * dim;
    decode_row(check.plane, row, off.data());
    for (uint32_t d = 0; d < dim; ++d) {
      off[d] -= exact[d];
      if (!std::isfinite(off[d])) off[d] = 0;  // no width mends what is no number
    }
    for (size_t token = queries.tokens.size(); token-- > 0;) {
      if (queries.tokens[token] < check.first_token + row) break;
      const float* q = queries.q + (token * queries.n_heads + size_t{check.head} * group) * dim;
      for (uint32_t g = 0; g < group; ++g, ++n) {
        const double moved = dot(q + size_t{g} * dim, off.data(), dim);
        squares += moved * moved;
      }
    }
  }
  return n == 0 ? 0 : std::sqrt(squares / static_cast<double>(n) / dim);
}

double score_error_bound(PlaneCodec asked) {
  const int bits = code_bits(asked);
  if (bits == 0) return std::numeric_limits<double>::infinity();
  if (bits == 8) return kErrorAllowed;
  return std::max(kErrorAllowed, kSpreadAllowed * code_error(code_book(bits)));
}

PlaneCodec wider(PlaneCodec codec) {
  switch (codec) {
    case PlaneCodec::rot2:
      return PlaneCodec::rot3;
    case PlaneCodec::rot3:
      return PlaneCodec::rot4;
    case PlaneCodec::rot4:
      return PlaneCodec::rot5;
    case PlaneCodec::rot5:
      return PlaneCodec::rot6;
    case PlaneCodec::rot6:
      return PlaneCodec::rot8;
    default:
      return PlaneCodec::f16;
  }
}

int width_of(PlaneCodec codec) {
  switch (codec) {
    case PlaneCodec::f32:
      return 32;
    case PlaneCodec::f16:
      return 16;
    case PlaneCodec::paper_k8:
    case PlaneCodec::paper_v3:
      return 8;
    default:
      return code_bits(codec);
  }
}

}  // namespace polykv
