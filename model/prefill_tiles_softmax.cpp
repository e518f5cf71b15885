// What attention does between its products, by AVX-512. As in kernels_avx2.cpp, nothing from
// elsewhere is instantiated here.
#include <immintrin.h>

#include "model/prefill_tiles_attend.h"

namespace polykv::tiles {
namespace {

constexpr float kNone = -1e30f;  // less than any score, and still finite

// To the nearest bfloat16, a's in the low halves.
inline __m512i pair(__m512 a, __m512 b) {
  const __m512i half = _mm512_set1_epi32(0x8000);
  const __m512i low = _mm512_srli_epi32(_mm512_add_epi32(_mm512_castps_si512(a), half), 16);
  const __m512i high = _mm512_add_epi32(_mm512_castps_si512(b), half);
  return _mm512_mask_blend_epi16(0xaaaaaaaa, low, high);
}

inline void round_16(const float* x, uint16_t* out) {
  const __m256i rounded = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_loadu_ps(x)));
  _mm256_store_si256(reinterpret_cast<__m256i*>(out), rounded);
}

// Multiples of `step`, for gathers of a column.
inline __m512i every(int step) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return _mm512_mullo_epi32(lanes, _mm512_set1_epi32(step));
}

// 2^x for x <= 0, to 2e-4, and exact at 0: bfloat16 keeps 4e-3.
inline __m512 power_of_two(__m512 x) {
  const __m512 n = _mm512_roundscale_ps(x, 8);
  const __m512 r = _mm512_sub_ps(x, n);
  __m512 y = _mm512_set1_ps(0.05575465f);
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0.24203533f));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(0.69314718f));
  y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(y, n);
}

// Half a block: 16 queries.
struct Lanes {
  __m512i behind, begin;  // keys [begin, behind) are seen
  bool all;               // by all of them, whatever the key of the chunk

  Lanes(const QueryBlock& block, uint32_t half, uint32_t first, uint32_t n) {
    behind = _mm512_loadu_si512(block.behind + 16 * half);
    begin = _mm512_sub_epi32(behind, _mm512_set1_epi32(block.window));
    const auto first_key = static_cast<int>(first), last_key = static_cast<int>(first + n - 1);
    all = (_mm512_cmpgt_epi32_mask(behind, _mm512_set1_epi32(last_key)) &
           _mm512_cmple_epi32_mask(begin, _mm512_set1_epi32(first_key))) == 0xffff;
  }
  __mmask16 see(uint32_t key) const {
    const __m512i k = _mm512_set1_epi32(static_cast<int>(key));
    return _mm512_cmpgt_epi32_mask(behind, k) & _mm512_cmple_epi32_mask(begin, k);
  }
};

template <bool All>
inline __m512 largest_of(const Lanes& lanes, const float (*scores)[kSide], uint32_t first,
                         uint32_t n) {
  __m512 top[2] = {_mm512_set1_ps(kNone), _mm512_set1_ps(kNone)};
  for (uint32_t i = 0; i < n; ++i) {
    const __mmask16 seen = All ? 0xffff : lanes.see(first + i);
    top[i % 2] = _mm512_mask_max_ps(top[i % 2], seen, top[i % 2], _mm512_load_ps(scores[i]));
  }
  return _mm512_max_ps(top[0], top[1]);
}

// Their sum comes back.
template <bool All>
inline __m512 weights_of(const Lanes& lanes, const float (*scores)[kSide], uint32_t first,
                         uint32_t n, __m512 largest, uint16_t* out) {
  __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  for (uint32_t i = 0; i < n; i += 2) {
    __m512 a = power_of_two(_mm512_sub_ps(_mm512_load_ps(scores[i]), largest));
    __m512 b = power_of_two(_mm512_sub_ps(_mm512_load_ps(scores[i + 1]), largest));
    if (!All) {
      a = _mm512_maskz_mov_ps(lanes.see(first + i), a);
      b = _mm512_maskz_mov_ps(lanes.see(first + i + 1), b);
    }
    sums[0] = _mm512_add_ps(sums[0], a);
    sums[1] = _mm512_add_ps(sums[1], b);
    _mm512_store_si512(out + i / kSide * 2 * kTile + i % kSide / 2 * 32, pair(a, b));
  }
  return _mm512_add_ps(sums[0], sums[1]);
}

}  // namespace

void round_keys(const float* k, size_t stride, uint32_t there, uint32_t n, uint32_t head_dim,
                uint16_t* keys) {
  for (uint32_t i = 0; i < n; ++i, keys += head_dim) {
    for (uint32_t d = 0; d < head_dim; d += 16) {
      if (i < there) {
        round_16(k + i * stride + d, keys + d);
      } else {
        _mm256_store_si256(reinterpret_cast<__m256i*>(keys + d), _mm256_setzero_si256());
      }
    }
  }
}

void turn_values(const float* v, size_t stride, uint32_t there, uint32_t n, uint32_t head_dim,
                 uint16_t* values) {
  alignas(64) int square[16][16];  // pairs of keys down, dimensions across
  for (uint32_t i = 0; i < n; i += kSide) {
    for (uint32_t d = 0; d < head_dim; d += 16) {
      for (uint32_t r = 0; r < 16; ++r) {
        const uint32_t key = i + 2 * r;
        const float* row = v + key * stride + d;
        const auto a = static_cast<__mmask16>(key < there ? 0xffff : 0);
        const auto b = static_cast<__mmask16>(key + 1 < there ? 0xffff : 0);
        _mm512_store_si512(
            square[r], pair(_mm512_maskz_loadu_ps(a, row), _mm512_maskz_loadu_ps(b, row + stride)));
      }
      for (uint32_t c = 0; c < 16; ++c) {
        _mm512_store_si512(values + size_t{d + c} * kValueStride + i,
                           _mm512_i32gather_epi32(every(16), square[0] + c, 4));
      }
    }
  }
}

void begin_block(const QueryBlock& block, BlockState& state) {
  alignas(64) uint16_t rounded[16][256];
  const __m512 factor = _mm512_set1_ps(1.44269504f / __builtin_sqrtf(float(block.head_dim)));
  for (uint32_t half = 0; half < 2; ++half) {
    _mm512_store_ps(state.largest + 16 * half, _mm512_set1_ps(kNone));
    _mm512_store_ps(state.total + 16 * half, _mm512_setzero_ps());
    for (uint32_t i = 0; i < 16; ++i) {
      const float* row = block.rows[16 * half + i];
      for (uint32_t d = 0; d < block.head_dim; d += 16) {
        alignas(64) float scaled[16];
        _mm512_store_ps(scaled, _mm512_mul_ps(_mm512_loadu_ps(row + d), factor));
        round_16(scaled, rounded[i] + d);
      }
    }
    const auto* dwords = reinterpret_cast<const int*>(rounded[0]);
    for (uint32_t r = 0; r < block.head_dim / 2; ++r) {  // pairs of dimensions
      _mm512_store_si512(state.queries + (r / 16 * 2 + half) * kTile + r % 16 * 32,
                         _mm512_i32gather_epi32(every(128), dwords + r, 4));
    }
  }
}

void weigh(const QueryBlock& block, uint32_t first, uint32_t n, BlockState& state) {
  for (uint32_t half = 0; half < 2; ++half) {
    const Lanes lanes(block, half, first, n);
    const auto* scores =
        reinterpret_cast<const float(*)[kSide]>(&state.scores[0][size_t{16} * half]);
    const __m512 before = _mm512_load_ps(state.largest + 16 * half);
    const __m512 here = lanes.all ? largest_of<true>(lanes, scores, first, n)
                                  : largest_of<false>(lanes, scores, first, n);
    const __m512 largest = _mm512_max_ps(before, here);
    uint16_t* weights = state.weights + half * kTile;
    const __m512 added = lanes.all ? weights_of<true>(lanes, scores, first, n, largest, weights)
                                   : weights_of<false>(lanes, scores, first, n, largest, weights);
    const __m512 factor = power_of_two(_mm512_sub_ps(before, largest));
    const __m512 total = _mm512_load_ps(state.total + 16 * half);
    _mm512_store_ps(state.total + 16 * half, _mm512_fmadd_ps(total, factor, added));
    _mm512_store_ps(state.largest + 16 * half, largest);
    if (_mm512_cmpneq_ps_mask(before, largest) == 0) continue;  // times 1
    for (uint32_t d = 0; d < block.head_dim; ++d) {
      float* sums = &state.sums[d][size_t{16} * half];
      _mm512_store_ps(sums, _mm512_mul_ps(_mm512_load_ps(sums), factor));
    }
  }
}

void end_block(const QueryBlock& block, const BlockState& state) {
  for (uint32_t i = 0; i < block.n; ++i) {
    const __m512 total = _mm512_set1_ps(state.total[i]);
    for (uint32_t d = 0; d < block.head_dim; d += 16) {
      const __m512 sums = _mm512_i32gather_ps(every(kSide), &state.sums[d][i], 4);
      _mm512_storeu_ps(block.rows[i] + d, _mm512_div_ps(sums, total));
    }
  }
}

}  // namespace polykv::tiles
