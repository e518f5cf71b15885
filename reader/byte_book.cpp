// Code books in bytes, for integer products.
#include <array>
#include <cmath>

#include "reader/avx2_tiles.h"

namespace polykv::avx2 {
namespace {

// Bytes per unit where no step gives the points exactly, of 2, 3 and 4 bits: found by search over
// all scales that keep the points within 127, with the points' probabilities under N(0, 1) as
// weights.
constexpr std::array kScales = {79.4577f, 40.9254f, 38.2136f};

float step_of(int bits) {
  const float exact = code_step(bits);
  return exact != 0 ? exact : 1 / kScales[static_cast<size_t>(bits) - 2];
}

ByteBook make_book(int bits) {
  const auto points = code_book(bits);
  ByteBook book{};
  book.step = step_of(bits);
  for (size_t i = 0; i < std::size(book.points); ++i) {
    book.points[i] = static_cast<int8_t>(std::nearbyint(points[i % points.size()] / book.step));
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
