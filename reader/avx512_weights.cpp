// From products to weights to sums with AVX-512. All queries alike, in a fixed order.
// As in attend_avx512.cpp, nothing from the standard library is instantiated here.
#include <immintrin.h>

#include "reader/avx512_block.h"

namespace polykv::avx512 {
namespace {

constexpr float kLog2E = 1.44269504f, kLn2 = 0.693147181f;

// Kinds of weights: kMost * 2^x for x <= 0, by a polynomial of x - floor(x) that is exact at 0. Its
// largest error: 8.6e-5 (a twentieth of what rounding to bytes may be), 8.2e-8, 2.0e-9.
struct Bytes {
  static constexpr float kMost = 255.0f;
  static constexpr float kPolynomial[] = {7.706721284e-2f, 2.276448050e-1f, 6.951168284e-1f, 1.0f};
};
struct BytePairs {
  static constexpr float kMost = 65535.0f;
  static constexpr float kPolynomial[] = {1.867130072e-3f, 9.017030316e-3f, 5.579991311e-2f,
                                          2.401644502e-1f, 6.931513118e-1f, 1.0f};
};
struct Floats {
  static constexpr float kMost = 1.0f;
  static constexpr float kPolynomial[] = {2.161291495e-4f,
                                          1.246784645e-3f,
                                          9.675451567e-3f,
                                          5.548528062e-2f,
                                          2.402293056e-1f,
                                          6.931470444e-1f,
                                          1.0f};
};

template <class Kind>
[[gnu::always_inline]] inline __m512 power(__m512 x) {
  constexpr int kFloor = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
  const __m512 r = _mm512_reduce_ps(x, kFloor);
  __m512 y = _mm512_set1_ps(Kind::kPolynomial[0] * Kind::kMost);
  constexpr int kDegree = sizeof Kind::kPolynomial / sizeof(float) - 1;
#pragma GCC unroll 8
  for (int i = 1; i <= kDegree; ++i) {
    y = _mm512_fmadd_ps(y, r, _mm512_set1_ps(Kind::kPolynomial[i] * Kind::kMost));
  }
  return _mm512_scalef_ps(y, x);  // y * 2^floor(x)
}

// One query's share of the second half of the tile to come.
[[gnu::always_inline]] inline void fetch(const Scratch& s, uint32_t query) {
  if (s.ahead == nullptr) return;
  const uint32_t begin = s.ahead_bytes / 2 + query * s.ahead_share;
  for (uint32_t at = begin; at < begin + s.ahead_share && at < s.ahead_bytes; at += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(s.ahead + at), _MM_HINT_T0);
  }
}

// The largest lane in all lanes.
[[gnu::always_inline]] inline __m512 largest(__m512 x) {
  x = _mm512_max_ps(x, _mm512_shuffle_f32x4(x, x, 0x4e));
  x = _mm512_max_ps(x, _mm512_shuffle_f32x4(x, x, 0xb1));
  x = _mm512_max_ps(x, _mm512_permute_ps(x, 0x4e));
  return _mm512_max_ps(x, _mm512_permute_ps(x, 0xb1));
}

// Order of groups of 4 numbers behind packs, and of packs behind groups: a transposition.
[[gnu::always_inline]] inline __m512i pack_order() {
  return _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
}
[[gnu::always_inline]] inline __mmask64 in_pack_order(uint64_t tokens) {
  return _mm512_movepi8_mask(_mm512_permutexvar_epi32(pack_order(), _mm512_movm_epi8(tokens)));
}
// 64 numbers up to 255, in order; 0 where `packed` says so, in the order of packs.
[[gnu::always_inline]] inline __m512i bytes_of(const __m512i (&x)[4], __mmask64 packed) {
  const __m512i a = _mm512_packus_epi32(x[0], x[1]), b = _mm512_packus_epi32(x[2], x[3]);
  return _mm512_permutexvar_epi32(pack_order(), _mm512_maskz_packus_epi16(packed, a, b));
}

// Weights as they are multiplied: bytes, hi before lo, or f32.
[[gnu::always_inline]] inline void put(Floats, const __m512 (&weights)[4], __mmask64, float* out) {
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) _mm512_store_ps(out + 16 * v, weights[v]);
}
[[gnu::always_inline]] inline void put(Bytes, const __m512 (&weights)[4], __mmask64 packed,
                                       float* out) {
  const __m512i x[4] = {_mm512_cvtps_epi32(weights[0]), _mm512_cvtps_epi32(weights[1]),
                        _mm512_cvtps_epi32(weights[2]), _mm512_cvtps_epi32(weights[3])};
  _mm512_store_si512(out, bytes_of(x, packed));
}
[[gnu::always_inline]] inline void put(BytePairs, const __m512 (&weights)[4], __mmask64 packed,
                                       float* out) {
  const __m512i low = _mm512_set1_epi32(255);
  __m512i hi[4], lo[4];
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    const __m512i both = _mm512_cvtps_epi32(weights[v]);
    hi[v] = _mm512_srli_epi32(both, 8);
    lo[v] = _mm512_and_si512(both, low);
  }
  _mm512_store_si512(out, bytes_of(hi, packed));
  _mm512_store_si512(out + 16, bytes_of(lo, packed));
}

// Products in powers of 2: integers of codes, f32 of plain rows, of which only `there` is written.
template <bool Coded>
[[gnu::always_inline]] inline __m512 exponent_of(const int32_t* product, __m512 step, __m512 scale,
                                                 __m512 lift, __mmask16 there) {
  if constexpr (Coded) {
    const __m512 number = _mm512_cvtepi32_ps(_mm512_load_si512(product));
    return _mm512_fmadd_ps(_mm512_mul_ps(number, step), scale, lift);
  } else {
    return _mm512_fmadd_ps(_mm512_maskz_load_ps(there, product), scale, lift);
  }
}

// Two vectors with maxima of pairs of their parts of 128 bits, those of a before those of b.
template <int Even, int Odd>
[[gnu::always_inline]] inline __m512 join_parts(__m512 a, __m512 b) {
  return _mm512_max_ps(_mm512_shuffle_f32x4(a, b, Even), _mm512_shuffle_f32x4(a, b, Odd));
}
// Maxima of 4 vectors, 4 apart, each left in 4 lanes of its own.
[[gnu::always_inline]] inline __m512 join_four(const float* x) {
  const __m512 a = join_parts<0x44, 0xee>(_mm512_load_ps(x), _mm512_load_ps(x + 64));
  const __m512 b = join_parts<0x44, 0xee>(_mm512_load_ps(x + 128), _mm512_load_ps(x + 192));
  return join_parts<0x88, 0xdd>(a, b);
}
// The largest lane of each of 16 vectors. Together they take a third of the time.
[[gnu::always_inline]] inline __m512 largest_of_sixteen(const float* x) {
  const __m512 a = join_four(x), b = join_four(x + 16), c = join_four(x + 32),
               d = join_four(x + 48);
  const __m512 ab = _mm512_max_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = _mm512_max_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  return _mm512_max_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
}

// Products become exponents, in their place; and the largest of each query's.
template <bool Coded>
void raise(const Scratch& s, const BlockFacts& facts, uint32_t first, uint32_t n,
           int32_t* products) {
  constexpr uint32_t kFew = 4;
  alignas(64) float tops[kGroupMax * 16];
  __m512 scale[4], lift[4];
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    scale[v] = _mm512_load_ps(facts.scale + 16 * v);
    lift[v] = _mm512_load_ps(facts.lift + 16 * v);
  }
  for (uint32_t i = 0; i < n; ++i, products += kProductStride) {
    const __m512 step = _mm512_set1_ps(s.q_step[first + i]);
    __m512 x[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const auto there = static_cast<__mmask16>(facts.there >> (16 * v));
      x[v] = exponent_of<Coded>(products + 16 * v, step, scale[v], lift[v], there);
      _mm512_store_ps(products + 16 * v, x[v]);
    }
    const __m512 top = _mm512_max_ps(_mm512_max_ps(x[0], x[1]), _mm512_max_ps(x[2], x[3]));
    if (n <= kFew) {
      _mm_store_ss(s.top + first + i, _mm512_castps512_ps128(largest(top)));
    } else {
      _mm512_store_ps(tops + 16 * i, top);
    }
  }
  if (n <= kFew) return;
  for (uint32_t i = n; i < kGroupMax; ++i) {
    _mm512_store_ps(tops + 16 * i, _mm512_setzero_ps());
  }
  const auto there = static_cast<__mmask16>((1u << n) - 1);
  _mm512_mask_storeu_ps(s.top + first, there, largest_of_sixteen(tops));
}

// Exponents of queries become weights and their sums.
template <class Kind>
void weigh_as(const Scratch& s, const BlockFacts& facts, uint32_t first, uint32_t n,
              const int32_t* exponents) {
  const __mmask64 packed = in_pack_order(facts.valued);
  __m512 back[4];
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) back[v] = _mm512_load_ps(facts.back + 16 * v);
  for (uint32_t query = first; query < first + n; ++query, exponents += kProductStride) {
    fetch(s, query);
    const __m512 top = _mm512_set1_ps(s.top[query]);
    __m512 x[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      x[v] = power<Kind>(_mm512_sub_ps(_mm512_load_ps(exponents + 16 * v), top));
    }
    __m512 sum = _mm512_mul_ps(x[0], back[0]);
#pragma GCC unroll 3
    for (int v = 1; v < 4; ++v) sum = _mm512_fmadd_ps(x[v], back[v], sum);
    float* out = s.weights + size_t{query} * kWeightStride;
    put(Kind{}, x, packed, out);
    _mm512_store_ps(out + kWeightSums, sum);
  }
}

float weight_most(const SplitCall& call, const BlockFacts& facts) {
  if (!facts.v_coded) return Floats::kMost;
  return has_wide_weights(*call.v) ? BytePairs::kMost : Bytes::kMost;
}

float point_step(const PlaneView& plane) {
  const int bits = code_bits(plane.shape.codec);
  return bits == 8 ? 1.0f : avx2::byte_book(bits).step;
}

uint64_t first_tokens(uint32_t n) { return n >= 64 ? ~0ull : (1ull << n) - 1; }

// Base 2 logarithm of 16 numbers, to 3.1e-7; exact for powers of 2.
__m512 logarithm(__m512 x) {
  constexpr float kPolynomial[] = {1.552991725e-2f,  -7.955773081e-2f, 1.942943224e-1f,
                                   -3.259019739e-1f, 4.735534114e-1f,  -7.205854689e-1f,
                                   1.442667829f};
  const __m512 mantissa = _mm512_getmant_ps(x, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_zero);
  const __m512 past_one = _mm512_sub_ps(mantissa, _mm512_set1_ps(1.0f));
  __m512 y = _mm512_set1_ps(kPolynomial[0]);
#pragma GCC unroll 8
  for (int i = 1; i < 7; ++i) y = _mm512_fmadd_ps(y, past_one, _mm512_set1_ps(kPolynomial[i]));
  return _mm512_fmadd_ps(y, past_one, _mm512_getexp_ps(x));
}

// 1 / x, to 1e-7.
__m512 inverse(__m512 x) {
  const __m512 near = _mm512_rcp14_ps(x);
  return _mm512_mul_ps(near, _mm512_fnmadd_ps(x, near, _mm512_set1_ps(2.0f)));
}

// Sixteen of a tile's scales as they are stored, 0 past its end.
__m512i stored_scales(const PlaneView& plane, const Block& block, int v) {
  const uint8_t* scales = plane.scales + (block.first - plane.shape.n_sinks) + 16 * v;
  const auto there = static_cast<__mmask16>(first_tokens(block.rows) >> (16 * v));
  return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(there, scales));
}

}  // namespace

// A short tile's codes lie behind its points, both within a tile of plain rows; loads of tiles may
// run over the points' end by a row.
Scratch cut_scratch(const SplitCall& call) {
  const size_t dim = call.k->shape.head_dim, n = (size_t{call.n_queries} + 15) / 16 * 16;
  float* next = call.scratch;
  next += (64 - reinterpret_cast<uintptr_t>(next) % 64) % 64 / sizeof(float);
  const auto take = [&next](size_t floats) {
    next += floats;
    return next - floats;
  };
  Scratch s{};
  s.tile = take(kTileRows * dim);
  s.codes = reinterpret_cast<uint8_t*>(s.tile + kTileRows * dim / 2);
  s.sums[0] = reinterpret_cast<int32_t*>(take(kGroupMax * kProductStride));
  s.sums[1] = s.sums[0] + kTileRows;
  s.q = reinterpret_cast<int8_t*>(take(n * dim / 2));
  s.weights = take(n * kWeightStride);
  s.lanes = take(size_t{call.n_queries} * 16);
  s.q_start = reinterpret_cast<int32_t*>(take(n));
  s.q_step = take(n), s.top = take(n), s.ref = take(n), s.keep = take(n), s.gain = take(n);
  return s;
}

bool has_wide_weights(const PlaneView& v) { return code_bits(v.shape.codec) == 8; }
bool has_wide_queries(const PlaneView& k) { return code_bits(k.shape.codec) >= 6; }

void write_facts(const SplitCall& call, const Block& block, BlockFacts* facts) {
  const PlaneView &k = *call.k, &v = *call.v;
  facts->k_coded = block.coded && is_rotated(k.shape.codec);
  facts->v_coded = block.coded && is_rotated(v.shape.codec);
  facts->there = first_tokens(block.end - block.first) & ~first_tokens(block.begin - block.first);
  facts->valued = facts->there;
  const __m512 unit =
      _mm512_set1_ps(facts->k_coded ? k.scale_max / 255.0f * point_step(k) * kLog2E : kLog2E);
  if (!facts->k_coded) {
    const Block plain{block.begin, block.end - block.begin, block.begin, block.end, false};
    alignas(64) float scale[kTileRows];
    avx2::write_scales(k, plain, scale);
    const uint32_t skip = block.begin - block.first;
    for (uint32_t t = 0; t < kTileRows; ++t) facts->scale[t] = t < skip ? 0 : scale[t - skip];
  }
  for (int v16 = 0; v16 < 4; ++v16) {
    const auto there = static_cast<__mmask16>(facts->there >> (16 * v16));
    float* scale = facts->scale + 16 * v16;
    const __m512 of_k =
        facts->k_coded ? _mm512_cvtepi32_ps(stored_scales(k, block, v16)) : _mm512_load_ps(scale);
    _mm512_store_ps(scale, _mm512_mul_ps(of_k, unit));
    __m512 lift = _mm512_setzero_ps(), back = _mm512_set1_ps(1.0f);
    if (facts->v_coded) {
      const __m512i stored = stored_scales(v, block, v16);
      const uint64_t none = _mm512_testn_epi32_mask(stored, stored);
      facts->valued &= ~(none << (16 * v16));
      // 0, that has no logarithm, counts as 2^-8: no value will.
      const __m512 of_v = _mm512_max_ps(_mm512_cvtepi32_ps(stored), _mm512_set1_ps(0x1p-8f));
      lift = logarithm(of_v);
      back = inverse(of_v);
    }
    lift = _mm512_mask_mov_ps(_mm512_set1_ps(-__builtin_inff()), there, lift);
    _mm512_store_ps(facts->lift + 16 * v16, lift);
    _mm512_store_ps(facts->back + 16 * v16, _mm512_maskz_mov_ps(there, back));
  }
}

float value_unit(const PlaneView& v) { return v.scale_max / 255.0f * point_step(v); }

void start(const SplitCall& call, const Scratch& s) {
  const size_t values = size_t{call.n_queries} * call.v->shape.head_dim;
  for (size_t i = 0; i < values; i += 16) {
    _mm512_storeu_ps(call.acc + i, _mm512_setzero_ps());
    _mm512_storeu_ps(call.acc_rotated + i, _mm512_setzero_ps());
  }
  for (uint32_t query = 0; query < call.n_queries; ++query) {
    s.ref[query] = -__builtin_inff();
    _mm512_store_ps(s.lanes + size_t{query} * 16, _mm512_setzero_ps());
  }
}

void weigh(const SplitCall& call, const Scratch& s, const BlockFacts& facts, uint32_t first,
           uint32_t n, int32_t* products) {
  facts.k_coded ? raise<true>(s, facts, first, n, products)
                : raise<false>(s, facts, first, n, products);
  if (!facts.v_coded) return weigh_as<Floats>(s, facts, first, n, products);
  if (has_wide_weights(*call.v)) return weigh_as<BytePairs>(s, facts, first, n, products);
  weigh_as<Bytes>(s, facts, first, n, products);
}

void join_block(const SplitCall& call, const Scratch& s, const BlockFacts& facts) {
  const __m512 share = _mm512_set1_ps(1.0f / weight_most(call, facts));
  for (uint32_t query = 0; query < call.n_queries; query += 16) {
    __m512 top = _mm512_load_ps(s.top + query);
    if (facts.k_coded) {
      const auto there = static_cast<__mmask16>(first_tokens(call.n_queries - query));
      const __m512 mean = _mm512_maskz_loadu_ps(there, call.q_mean + query);
      top = _mm512_fmadd_ps(mean, _mm512_set1_ps(kLog2E), top);
    }
    const __m512 old = _mm512_load_ps(s.ref + query), ref = _mm512_max_ps(old, top);
    _mm512_store_ps(s.ref + query, ref);
    _mm512_store_ps(s.keep + query, power<Floats>(_mm512_sub_ps(old, ref)));
    const __m512 gain = power<Floats>(_mm512_sub_ps(top, ref));
    _mm512_store_ps(s.gain + query, _mm512_mul_ps(gain, share));
  }
  for (uint32_t query = 0; query < call.n_queries; ++query) {
    float* lanes = s.lanes + size_t{query} * 16;
    const float* fresh = s.weights + size_t{query} * kWeightStride + kWeightSums;
    const __m512 kept = _mm512_mul_ps(_mm512_load_ps(lanes), _mm512_set1_ps(s.keep[query]));
    const __m512 gain = _mm512_set1_ps(s.gain[query]);
    _mm512_store_ps(lanes, _mm512_fmadd_ps(_mm512_load_ps(fresh), gain, kept));
  }
}

void add_products(const SplitCall& call, const Scratch& s, uint32_t first, uint32_t n, uint32_t d,
                  const int32_t* products) {
  const PlaneView& v = *call.v;
  const __m512 unit = _mm512_set1_ps(value_unit(v));
  float* acc = call.acc_rotated + size_t{first} * v.shape.head_dim + d;
  for (uint32_t i = 0; i < n; ++i, acc += v.shape.head_dim, products += kProductStride) {
    if (d == 0) fetch(s, first + i);
    const __m512 gain = _mm512_mul_ps(_mm512_set1_ps(s.gain[first + i]), unit);
    const __m512 keep = _mm512_set1_ps(s.keep[first + i]);
#pragma GCC unroll 4
    for (int j = 0; j < 64; j += 16) {
      const __m512 product = _mm512_cvtepi32_ps(_mm512_load_si512(products + j));
      const __m512 kept = _mm512_mul_ps(_mm512_loadu_ps(acc + j), keep);
      _mm512_storeu_ps(acc + j, _mm512_fmadd_ps(product, gain, kept));
    }
  }
}

void add_means(const SplitCall& call, const Scratch& s) {
  const PlaneView& v = *call.v;
  if (v.mean == nullptr) return;
  for (uint32_t query = 0; query < call.n_queries; ++query) {
    const __m512 sum =
        _mm512_set1_ps(_mm512_reduce_add_ps(_mm512_load_ps(s.lanes + size_t{query} * 16)));
    float* acc = call.acc + size_t{query} * v.shape.head_dim;
    for (uint32_t d = 0; d < v.shape.head_dim; d += 16) {
      _mm512_storeu_ps(acc + d, _mm512_mul_ps(sum, _mm512_loadu_ps(v.mean + d)));
    }
  }
}

void finish(const SplitCall& call, const Scratch& s) {
  for (uint32_t query = 0; query < call.n_queries; ++query) {
    call.max[query] = s.ref[query] * kLn2;
    call.sum[query] = _mm512_reduce_add_ps(_mm512_load_ps(s.lanes + size_t{query} * 16));
  }
}

}  // namespace polykv::avx512
