// Attention of a split with AMX tiles: 16 queries times 16 tokens, or 16 queries' weights times 16
// dimensions, in one instruction; codes lie in memory as it wants them. Few queries are faster
// without tiles, and get the same integers. As in attend_avx512.cpp, nothing from elsewhere is
// instantiated here.
#include <immintrin.h>

#include "ipc/amx.h"
#include "reader/avx512_permuted.h"
#include "reader/avx512_walk.h"

namespace polykv {
namespace {

using avx512::Scratch;

constexpr uint32_t kQueriesMin = 12;
constexpr uint32_t kStride = avx512::kProductStride;
constexpr uint32_t kSide = 16;  // rows of a tile; 4-byte columns of a row

enum Tile { even_sums, odd_sums, rows_tile, other_points, column_tiles };  // 4 columns

// sum += bytes times bytes.
struct Signed {  // queries and points of K
  template <int Sum, int Points>
  static void multiply() {
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sum), "i"(rows_tile), "i"(Points));
  }
};
struct Unsigned {  // weights and points of V
  template <int Sum, int Points>
  static void multiply() {
    asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sum), "i"(rows_tile), "i"(Points));
  }
};

// Calls step of 0, 1, 2, 3 as types: of each 16 columns.
template <int N>
struct Column {
  static constexpr int kIndex = N;
};
template <class Step>
void each_column(const Step& step) {
  step(Column<0>{}), step(Column<1>{}), step(Column<2>{}), step(Column<3>{});
}

// Points of 64 columns, 64 bytes each, stay in tiles.
void hold_points(const uint8_t* points, size_t stride) {
  each_column([&](auto column) {
    constexpr int kColumn = decltype(column)::kIndex;
    amx::load_tile<column_tiles + kColumn>(points + 64 * kColumn, stride);
  });
}

// products = rows of bytes times the points held. products: [16, kProductStride]
template <class Sign>
void multiply_held(const int8_t* rows, size_t stride, int32_t* products) {
  amx::load_tile<rows_tile>(rows, stride);
  each_column([&](auto column) {
    constexpr int kColumn = decltype(column)::kIndex, kSums = kColumn % 2;
    amx::clear_tile<kSums>();
    Sign::template multiply<kSums, column_tiles + kColumn>();
    amx::store_tile<kSums>(products + kSide * kColumn, kStride * sizeof *products);
  });
}

// The same for n_steps times 64 bytes: the sums stay in tiles, the points do not.
template <class Sign>
void multiply_long(const int8_t* rows, size_t stride, const uint8_t* points, size_t point_stride,
                   uint32_t n_steps, int32_t* products) {
  each_column([](auto column) { amx::clear_tile<column_tiles + decltype(column)::kIndex>(); });
  for (uint32_t i = 0; i < n_steps; ++i, rows += 64, points += kSide * point_stride) {
    amx::load_tile<rows_tile>(rows, stride);
    each_column([&](auto column) {
      constexpr int kColumn = decltype(column)::kIndex;
      amx::load_tile<other_points>(points + 64 * kColumn, point_stride);
      Sign::template multiply<column_tiles + kColumn, other_points>();
    });
  }
  each_column([&](auto column) {
    constexpr int kColumn = decltype(column)::kIndex;
    amx::store_tile<column_tiles + kColumn>(products + kSide * kColumn, kStride * sizeof *products);
  });
}

// products = 256 * products + lo
void join_planes(const int32_t* lo, int32_t* products) {
  for (uint32_t i = 0; i < kSide; ++i, products += kStride, lo += kStride) {
    for (uint32_t j = 0; j < kTileRows; j += kSide) {
      const __m512i hi = _mm512_slli_epi32(_mm512_load_si512(products + j), 8);
      _mm512_store_si512(products + j, _mm512_add_epi32(hi, _mm512_load_si512(lo + j)));
    }
  }
}
// multiply(plane, products) of one plane, or of both.
template <class Multiply>
void in_planes(bool wide, int32_t* products, const Multiply& multiply) {
  multiply(0, products);
  if (!wide) return;
  alignas(64) int32_t lo[kSide * kStride];
  multiply(1, lo);
  join_planes(lo, products);
}

struct Tiles {
  static constexpr uint32_t kGroup = kSide;
  static constexpr bool kSigned = true;
  using Block = avx2::Block;

  static void start_scores(const SplitCall& call, const Block& block, const uint8_t* points) {
    if (call.k->shape.head_dim == 64) hold_points(points, size_t{4} * block.rows);
  }
  static void score(const SplitCall& call, const Scratch& scratch, const Block& block,
                    const uint8_t* points, uint32_t first, uint32_t, int32_t* products) {
    const uint32_t dim = call.k->shape.head_dim;
    in_planes(avx512::has_wide_queries(*call.k), products, [&](uint32_t plane, int32_t* out) {
      const int8_t* rows = scratch.q + (size_t{first} * 2 + plane) * dim;
      if (dim == 64) return multiply_held<Signed>(rows, size_t{2} * dim, out);
      multiply_long<Signed>(rows, size_t{2} * dim, points, size_t{4} * block.rows, dim / 64, out);
    });
  }
  static void add(const SplitCall& call, const Scratch& scratch, const Block&,
                  const uint8_t* points, uint32_t d) {
    hold_points(points + size_t{d} * 4, size_t{4} * call.v->shape.head_dim);
    const auto multiply = [&](uint32_t first, uint32_t, int32_t* products) {
      const float* weights = scratch.weights + size_t{first} * avx512::kWeightStride;
      in_planes(avx512::has_wide_weights(*call.v), products, [&](uint32_t plane, int32_t* out) {
        const auto* rows = reinterpret_cast<const int8_t*>(weights) + size_t{plane} * kTileRows;
        multiply_held<Unsigned>(rows, avx512::kWeightStride * sizeof *weights, out);
      });
    };
    avx512::in_groups<Tiles>(call, scratch, multiply,
                             [&](uint32_t first, uint32_t n, const int32_t* products) {
                               avx512::add_products(call, scratch, first, n, d, products);
                             });
  }
};

}  // namespace

void attend_split_amx(const SplitCall& call) {
  if (call.n_queries < kQueriesMin) return Avx512Walk<Permuted, avx512::Vnni>::attend(call);
  amx::TileConfig config;
  for (int tile = 0; tile < 8; ++tile) config.shape(tile, kSide, 64);
  const amx::TilesInUse in_use{config};
  Avx512Walk<Permuted, Tiles>::attend(call);
}

}  // namespace polykv
