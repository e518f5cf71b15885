// The kernels for x86-64 with AMX tiles (and AVX-512 for what is not a product): 16 rows of weights
// times up to 16 of activations in one instruction. As in kernels_avx2.cpp, nothing from elsewhere
// is instantiated here.
#include <immintrin.h>

#include "ipc/amx.h"
#include "model/kernels_x86.h"

namespace polykv {
namespace {

// What a tile holds, by its number.
enum Tile { sum_hi, sum_lo, plane_hi, plane_lo, weight_codes };

// Shapes for n rows of activations.
amx::TileConfig tiles_for(uint8_t n) {
  amx::TileConfig config;
  config.shape(sum_hi, n, 64), config.shape(sum_lo, n, 64);
  config.shape(plane_hi, n, 32), config.shape(plane_lo, n, 32);
  config.shape(weight_codes, 8, 64);
  return config;
}

template <Tile Sum, Tile Plane>
inline void multiply_tiles(int32_t (*sums)[16]) {
  asm volatile(
      "tilezero %%tmm%c2\n\t"
      "tdpbsud %%tmm%c4, %%tmm%c3, %%tmm%c2\n\t"
      "tilestored %%tmm%c2, (%0,%1,1)"
      :
      : "r"(sums), "r"(sizeof *sums), "i"(Sum), "i"(Plane), "i"(weight_codes)
      : "memory");
}

struct Amx {
  using Walk = PackedWalk<Amx>;
  static constexpr uint32_t kRowsMin = 8;  // fewer are faster without tiles
  static constexpr uint32_t kRowsMax = 16;
  // Blocks whose codes are unpacked ahead: a tile is not loaded from a store that is still on its
  // way to the cache.
  static constexpr uint32_t kAhead = 4;

  static __m512 load_halves(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }

  // Rows m to m + N of x times the blocks of groups in sequence: while the tiles of one block are
  // multiplied, the sums of the one before become floats, and one further on is unpacked.
  template <PackedForm Form, int N>
  struct Pass {
    using Block = Walk::template Block<Form>;
    alignas(64) uint8_t unpacked[kAhead][512];
    alignas(64) int32_t hi[2][N][16];
    alignas(64) int32_t lo[2][N][16];
    const Activations& x;
    const uint32_t m;
    Block ahead, tiles, floats;  // where the three are
    uint32_t n_ahead = 0, n_tiles = 0, n_floats = 0, tile_column = 0;
    const uint32_t n_all;

    Pass(const Weight& w, const Activations& in, uint32_t first, uint32_t begin, uint32_t end)
        : x(in),
          m(first),
          ahead(w, begin),
          tiles(w, begin),
          floats(w, begin),
          n_all((end - begin) * ahead.n_blocks) {
      for (uint32_t i = 0; i + 1 < kAhead; ++i) unpack();
      multiply();
    }

    [[gnu::always_inline]] void unpack() {
      if (n_ahead == n_all) return;
      ahead.fetch_ahead();
      if constexpr (Form == PackedForm::w4) {
        const __m512i nibble = _mm512_set1_epi8(15);
        uint8_t* to = unpacked[n_ahead % kAhead];
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) {
          const __m512i both = _mm512_loadu_si512(ahead.codes + 64 * v);
          _mm512_store_si512(to + 64 * v, _mm512_and_si512(both, nibble));
          _mm512_store_si512(to + 64 * v + 256,
                             _mm512_and_si512(_mm512_srli_epi16(both, 4), nibble));
        }
      }
      ahead.next();
      ++n_ahead;
    }

    [[gnu::always_inline]] void multiply() {
      if (n_tiles == n_all) return;
      const size_t stride = size_t{x.n_blocks} * 64;
      const int8_t* planes = x.planes + m * stride + size_t{tile_column} * 64;
      amx::load_tile<weight_codes>(
          Form == PackedForm::w4 ? unpacked[n_tiles % kAhead] : tiles.codes, 64);
      amx::load_tile<plane_hi>(planes, stride);
      multiply_tiles<sum_hi, plane_hi>(hi[n_tiles % 2]);
      amx::load_tile<plane_lo>(planes + 32, stride);
      multiply_tiles<sum_lo, plane_lo>(lo[n_tiles % 2]);
      tiles.next();
      ++n_tiles;
      if (++tile_column == x.n_blocks) tile_column = 0;
    }

    [[gnu::always_inline]] void add_block(uint32_t b, __m512 (&acc)[N]) {
      const __m512 d = load_halves(floats.scales);
      const __m512 min = floats.has_min == 1 ? load_halves(floats.scales + 16) : d;
      const BlockFacts* facts = x.facts + size_t{m} * x.n_blocks + b;
      const uint32_t slot = n_floats % 2;
#pragma GCC unroll 16
      for (int i = 0; i < N; ++i, facts += x.n_blocks) {
        const __m512i high = _mm512_slli_epi32(_mm512_load_si512(hi[slot][i]), 8);
        __m512i sum = _mm512_add_epi32(high, _mm512_load_si512(lo[slot][i]));
        if (Form != PackedForm::w4) {
          sum = _mm512_add_epi32(sum, _mm512_set1_epi32(facts->zeros[0]));
        }
        const __m512 scaled = _mm512_mul_ps(_mm512_set1_ps(facts->scale), _mm512_cvtepi32_ps(sum));
        acc[i] = _mm512_fmadd_ps(d, scaled, acc[i]);
        if (floats.has_min == 1) {
          acc[i] = _mm512_fmadd_ps(min, _mm512_set1_ps(facts->sums[0]), acc[i]);
        }
      }
      floats.next();
      ++n_floats;
    }

    [[gnu::always_inline]] void group(__mmask16 there, uint32_t n_rows, float* y) {
      __m512 acc[N];
#pragma GCC unroll 16
      for (int i = 0; i < N; ++i) acc[i] = _mm512_setzero_ps();
      for (uint32_t b = 0; b < x.n_blocks; ++b) {
        unpack();
        multiply();
        add_block(b, acc);
      }
#pragma GCC unroll 16
      for (int i = 0; i < N; ++i) _mm512_mask_storeu_ps(y + size_t(i) * n_rows, there, acc[i]);
    }
  };

  template <PackedForm Form, int N>
  static void groups(const Weight& w, const Activations& x, uint32_t m, uint32_t begin,
                     uint32_t end, float* y) {
    Pass<Form, N> pass(w, x, m, begin, end);
    for (uint32_t g = begin; g < end; ++g) {
      const uint32_t left = w.n_rows - g * 16;
      const auto there = static_cast<__mmask16>(left < 16 ? (1u << left) - 1 : 0xffff);
      pass.group(there, w.n_rows, y + size_t{m} * w.n_rows + size_t{g} * 16);
    }
  }

  // Rows of x in passes of the same size, the last one over some of those before it again, which
  // does not change them.
  template <PackedForm Form, int N>
  static void rows(const Weight& w, const Activations& x, uint32_t row_begin, uint32_t row_end,
                   float* y) {
    const uint64_t fitting = Walk::kChunkBytes / (uint64_t{w.n_cols} * 10);
    const uint32_t step = fitting == 0 ? 1 : static_cast<uint32_t>(fitting);
    const uint32_t end = (row_end + 15) / 16;
    const amx::TilesInUse in_use{tiles_for(N)};
    for (uint32_t g = row_begin / 16; g < end; g += step) {
      const uint32_t last = end - g < step ? end : g + step;
      for (uint32_t m = 0; m + N < x.n; m += N) groups<Form, N>(w, x, m, g, last, y);
      groups<Form, N>(w, x, x.n - N, g, last, y);
    }
  }

  template <PackedForm Form, int N = kRowsMax>
  static void passes(const Weight& w, const Activations& x, uint32_t row_begin, uint32_t row_end,
                     float* y) {
    if constexpr (N > static_cast<int>(kRowsMin)) {
      const uint32_t n_passes = (x.n + kRowsMax - 1) / kRowsMax;
      if (uint64_t{n_passes} * (N - 1) >= x.n) {
        return passes<Form, N - 1>(w, x, row_begin, row_end, y);
      }
    }
    rows<Form, N>(w, x, row_begin, row_end, y);
  }
};

}  // namespace

void matmul_amx(const Weight& w, const Activations& x, uint32_t row_begin, uint32_t row_end,
                float* y, float* scratch) {
  const bool packed = w.type == WeightType::w4 || w.type == WeightType::w8;
  if (!packed || w.block != 32 || x.n < Amx::kRowsMin || row_begin >= row_end) {
    return matmul_avx512(w, x, row_begin, row_end, y, scratch);
  }
  if (w.type == WeightType::w4) return Amx::passes<PackedForm::w4>(w, x, row_begin, row_end, y);
  Amx::passes<PackedForm::w8_32>(w, x, row_begin, row_end, y);
}

}  // namespace polykv
