// Tables for the vector kernels: code books in bytes, scales as they are stored.
#include <array>
#include <cmath>

#include "reader/avx2_tiles.h"
#include "reader/avx512_block.h"

namespace polykv {
namespace {

// Bytes per unit: found by search over all scales that keep the points within 127, with the points'
// probabilities under N(0, 1) as weights.
constexpr std::array kScales = {79.4577f, 40.9254f, 38.2136f, 36.1583f, 29.4990f};

avx2::ByteBook make_book(int bits) {
  const auto points = code_book(bits);
  const float scale = kScales[static_cast<size_t>(bits) - 2];
  avx2::ByteBook book{};
  book.step = 1 / scale;
  for (size_t i = 0; i < std::size(book.points); ++i) {
    book.points[i] = static_cast<int8_t>(std::nearbyint(points[i % points.size()] * scale));
  }
  return book;
}

struct ScaleTables {
  std::array<float, 256> logarithm{}, inverse{};

  ScaleTables() {
    for (size_t i = 0; i < 256; ++i) {
      const float scale = i == 0 ? 0x1p-8f : static_cast<float>(i);
      logarithm[i] = std::log2(scale);
      inverse[i] = 1 / scale;
    }
  }
};
const ScaleTables& scale_tables() {
  static const ScaleTables tables;
  return tables;
}

}  // namespace

const avx2::ByteBook& avx2::byte_book(int bits) {
  static const std::array kBooks = {make_book(2), make_book(3), make_book(4), make_book(5),
                                    make_book(6)};
  return kBooks[static_cast<size_t>(bits) - 2];
}

const float* avx512::scale_logarithms() { return scale_tables().logarithm.data(); }
const float* avx512::scale_inverses() { return scale_tables().inverse.data(); }

}  // namespace polykv
