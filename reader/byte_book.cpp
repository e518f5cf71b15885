// Code books in bytes, for integer products.
#include <array>
#include <cmath>

#include "reader/avx2_tiles.h"

namespace polykv::avx2 {
namespace {

// Bytes per unit: found by search over all scales that keep the points within 127, with the points'
// probabilities under N(0, 1) as weights.
constexpr std::array kScales = {79.4577f, 40.9254f, 38.2136f, 36.1583f, 29.4990f};

ByteBook make_book(int bits) {
  const auto points = code_book(bits);
  const float scale = kScales[static_cast<size_t>(bits) - 2];
  ByteBook book{};
  book.step = 1 / scale;
  for (size_t i = 0; i < std::size(book.points); ++i) {
    book.points[i] = static_cast<int8_t>(std::nearbyint(points[i % points.size()] * scale));
  }
  return book;
}

}  // namespace

const ByteBook& byte_book(int bits) {
  static const std::array kBooks = {make_book(2), make_book(3), make_book(4), make_book(5),
                                    make_book(6)};
  return kBooks[static_cast<size_t>(bits) - 2];
}

}  // namespace polykv::avx2
