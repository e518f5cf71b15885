// From products to weights to sums with AVX-512. All queries alike, in a fixed order.
// As in attend_avx512.cpp, nothing from the standard library is instantiated here.
#include <immintrin.h>

#include "reader/avx512_aside.h"
#include "reader/avx512_ends.h"

namespace polykv::avx512 {
namespace {

constexpr float kLog2E = 1.44269504f, kLn2 = 0.693147181f;

constexpr float kNone = 3.4e38f;  // -kNone: the reference of no tokens yet
// The largest lane of each of 16 vectors. Together they take a third of the time.
[[gnu::always_inline]] inline __m512 largest_of_sixteen(const float* x) {
  const __m512 a = join_four(x, 64), b = join_four(x + 16, 64), c = join_four(x + 32, 64),
               d = join_four(x + 48, 64);
  const __m512 ab = _mm512_max_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = _mm512_max_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  return _mm512_max_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
}

// A block's tokens, and one query's products with them: integers of codes, f32 of plain rows.
struct Tokens {
  __m512 scale[4], value[4];
  __mmask16 there[4];
};
Tokens tokens_of(const BlockFacts& facts) {
  Tokens tokens;
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    tokens.scale[v] = _mm512_load_ps(facts.scale + 16 * v);
    tokens.value[v] = _mm512_load_ps(facts.value + 16 * v);
    tokens.there[v] = static_cast<__mmask16>(facts.there >> (16 * v));
  }
  return tokens;
}
template <bool Coded>
[[gnu::always_inline]] inline __m512 number_of(const int32_t* product, __m512 step,
                                               __mmask16 there) {
  if constexpr (!Coded) return _mm512_maskz_load_ps(there, product);
  return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(product)), step);
}

// What products become: powers of 2 relative to a query's reference; their sum's lanes; and for a
// coded V the weights, which are powers times its scales, and the largest of each lane. Exact: the
// score that is the reference becomes 1, whatever its size.
struct Query {
  const int32_t* products;
  float *weights, *tops;
  __m512 step, off;  // off: of the reference
};
template <class Kind, bool Coded, bool Exact>
[[gnu::always_inline]] inline __m512 raise(const Tokens& tokens, const Query& query) {
  __m512 p[4];
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    const __m512 number = number_of<Coded>(query.products + 16 * v, query.step, tokens.there[v]);
    p[v] = power<Kind>(tokens.there[v],
                       Exact ? _mm512_add_ps(_mm512_mul_ps(number, tokens.scale[v]), query.off)
                             : _mm512_fmadd_ps(number, tokens.scale[v], query.off));
  }
  const __m512 sum = _mm512_add_ps(_mm512_add_ps(_mm512_add_ps(p[0], p[1]), p[2]), p[3]);
  _mm512_store_ps(query.weights + kWeightSums, sum);
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    if (Kind::kMost > 1) p[v] = _mm512_mul_ps(p[v], tokens.value[v]);
    _mm512_store_ps(query.weights + 16 * v, p[v]);
  }
  const __m512 top = _mm512_max_ps(_mm512_max_ps(p[0], p[1]), _mm512_max_ps(p[2], p[3]));
  if (Kind::kMost > 1) _mm512_store_ps(query.tops, top);
  return sum;
}

uint64_t first_tokens(uint32_t n) { return n >= 64 ? ~0ull : (1ull << n) - 1; }

float point_step(const PlaneView& plane) {
  const int bits = code_bits(plane.shape.codec);
  return bits == 8 ? 1.0f : avx2::byte_book(bits).step;
}

// Sixteen of a tile's scales as they are stored, 0 past its end.
__m512i stored_scales(const PlaneView& plane, const Block& block, int v) {
  const uint8_t* scales = plane.scales + (block.first - plane.shape.n_sinks) + 16 * v;
  const auto there = static_cast<__mmask16>(first_tokens(block.rows) >> (16 * v));
  return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(there, scales));
}

void scale_by(float* x, uint32_t n, __m512 factor) {
  for (uint32_t i = 0; i < n; i += 16) {
    _mm512_storeu_ps(x + i, _mm512_mul_ps(_mm512_loadu_ps(x + i), factor));
  }
}

// The work on queries [first, first + n) and a block.
struct Part {
  const SplitCall& call;
  const Scratch& s;
  const BlockFacts& facts;
  uint32_t first, n;
  const int32_t* products;
  float* pending = nullptr;  // gains of a block before, not yet added

  // The i-th of them.
  template <bool Coded>
  [[gnu::always_inline]] Query at(uint32_t i, float* tops) const {
    const uint32_t query = first + i;
    const float off = Coded ? s.off[query] : -s.ref[query];
    return {products + size_t{i} * kProductStride, s.weights + size_t{query} * kWeightStride,
            tops + size_t{i} * 16, _mm512_set1_ps(s.q_step[query]), _mm512_set1_ps(off)};
  }
};

// Makes the largest score of a block a query's reference, and brings its sums so far to it. A
// power of 2 apart from the one before, so that nothing is rounded and no order matters.
template <bool Coded>
void renew(const Part& part, const Tokens& tokens, uint32_t i) {
  const Scratch& s = part.s;
  const Query query = part.at<Coded>(i, nullptr);
  __m512 largest = _mm512_set1_ps(-kNone);
  for (int v = 0; v < 4; ++v) {
    const __m512 number = number_of<Coded>(query.products + 16 * v, query.step, tokens.there[v]);
    const __m512 x = _mm512_mul_ps(number, tokens.scale[v]);
    largest = _mm512_mask_max_ps(largest, tokens.there[v], largest, x);
  }
  const uint32_t at = part.first + i, dim = part.call.v->shape.head_dim;
  constexpr int kUp = _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC;
  const __m512 off = _mm512_roundscale_ps(_mm512_set1_ps(-_mm512_reduce_max_ps(largest)), kUp);
  const __m512 apart = _mm512_sub_ps(off, query.off);
  const __mmask16 near = _mm512_cmp_ps_mask(apart, _mm512_set1_ps(-100.0f), _CMP_GT_OQ);
  const __m512 keep = power<Floats>(near, apart);
  s.off[at] = _mm512_cvtss_f32(off);
  s.ref[at] = Coded ? part.call.q_mean[at] * kLog2E - s.off[at] : -s.off[at];
  if (part.pending != nullptr) part.pending[at] *= _mm512_cvtss_f32(keep);
  scale_by(s.lanes + size_t{at} * 16, 16, keep);
  scale_by(part.call.acc + size_t{at} * dim, dim, keep);
  scale_by(part.call.acc_rotated + size_t{at} * dim, dim, keep);
}

// Where scores lie so far above a query's reference that sums might overflow: no score passes the
// new one, whatever is rounded.
template <class Kind, bool Coded>
void renew_far(const Part& part, const Tokens& tokens, float* tops) {
  for (uint32_t i = 0; i < part.n; ++i) {
    const __m512 sum = _mm512_load_ps(part.at<Coded>(i, tops).weights + kWeightSums);
    if (_mm512_cmp_ps_mask(sum, _mm512_set1_ps(kFar), _CMP_GT_OQ) == 0) continue;
    renew<Coded>(part, tokens, i);
    raise<Kind, Coded, true>(tokens, part.at<Coded>(i, tops));
  }
}

template <class Kind, bool Coded>
[[gnu::always_inline]] inline void raise_all(const Part& part, float* tops) {
  const Tokens tokens = tokens_of(part.facts);
  const Scratch& s = part.s;
  const float *offs = (Coded ? s.off : s.ref) + part.first, *steps = s.q_step + part.first;
  Query query = part.at<Coded>(0, tops);
  uint32_t query_at = part.first;
  __m512 most = _mm512_setzero_ps();
  for (const float* end = offs + part.n; offs < end; ++offs, ++steps) {
    fetch_share(s, query_at++);
    query.step = _mm512_set1_ps(*steps);
    query.off = Coded ? _mm512_set1_ps(*offs) : _mm512_set1_ps(-*offs);
    most = _mm512_max_ps(most, raise<Kind, Coded, false>(tokens, query));
    query.products += kProductStride, query.weights += kWeightStride, query.tops += 16;
  }
  if (_mm512_cmp_ps_mask(most, _mm512_set1_ps(kFar), _CMP_GT_OQ) != 0) {
    renew_far<Kind, Coded>(part, tokens, tops);
  }
}

// Weights become integers: the largest of a query's kMost.
template <class Kind>
[[gnu::always_inline]] inline void round_all(const Part& part, float* tops) {
  const Scratch& s = part.s;
  const uint32_t room = part.n <= 4 ? 4 : kGroupMax;
  for (uint32_t i = part.n; i < room; ++i) _mm512_store_ps(tops + 16 * i, _mm512_setzero_ps());
  const __m512 top = part.n <= 4 ? largest_of_four(tops) : largest_of_sixteen(tops);
  const Rounding rounding = rounding_of<Kind>(top);
  const auto there = static_cast<__mmask16>((1u << part.n) - 1);
  _mm512_mask_storeu_ps(s.gain + part.first, there, rounding.gain);
  alignas(64) float per_one[16];
  _mm512_store_ps(per_one, rounding.per_one);
  float* weights = s.weights + size_t{part.first} * kWeightStride;
  for (uint32_t i = 0; i < part.n; ++i, weights += kWeightStride) {
    round_weights<Kind>(weights, _mm512_set1_ps(per_one[i]));
  }
}

template <class Kind>
void weigh_as(const Part& part) {
  alignas(64) float tops[kGroupMax * 16];
  part.facts.k_coded ? raise_all<Kind, true>(part, tops) : raise_all<Kind, false>(part, tops);
  for (uint32_t query = part.first; query < part.first + part.n; ++query) {
    float* lanes = part.s.lanes + size_t{query} * 16;
    const float* fresh = part.s.weights + size_t{query} * kWeightStride + kWeightSums;
    _mm512_store_ps(lanes, _mm512_add_ps(_mm512_load_ps(lanes), _mm512_load_ps(fresh)));
  }
  if constexpr (Kind::kMost > 1) round_all<Kind>(part, tops);
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
  s.q_step = take(n), s.ref = take(n), s.off = take(n), s.gain = take(n);
  return s;
}

bool has_wide_weights(const PlaneView& v) { return code_bits(v.shape.codec) >= 6; }
bool has_wide_queries(const PlaneView& k) { return code_bits(k.shape.codec) >= 6; }

void write_facts(const SplitCall& call, const Block& block, BlockFacts* facts) {
  const PlaneView &k = *call.k, &v = *call.v;
  facts->k_coded = block.coded && is_rotated(k.shape.codec);
  facts->v_coded = block.coded && is_rotated(v.shape.codec);
  facts->there = first_tokens(block.end - block.first) & ~first_tokens(block.begin - block.first);
  const __m512 unit = _mm512_set1_ps(facts->k_coded ? score_unit(k) : kLog2E);
  if (!facts->k_coded) {
    const Block plain{block.begin, block.end - block.begin, block.begin, block.end, false};
    alignas(64) float scale[kTileRows];
    avx2::write_scales(k, plain, scale);
    const uint32_t skip = block.begin - block.first;
    for (uint32_t t = 0; t < kTileRows; ++t) facts->scale[t] = t < skip ? 0 : scale[t - skip];
  }
  for (int v16 = 0; v16 < 4; ++v16) {
    float* scale = facts->scale + 16 * v16;
    const __m512 of_k =
        facts->k_coded ? _mm512_cvtepi32_ps(stored_scales(k, block, v16)) : _mm512_load_ps(scale);
    _mm512_store_ps(scale, _mm512_mul_ps(of_k, unit));
    if (!facts->v_coded) continue;
    const __m512i of_v = stored_scales(v, block, v16);
    _mm512_store_ps(facts->value + 16 * v16, _mm512_cvtepi32_ps(of_v));
  }
}

float score_unit(const PlaneView& k) { return k.scale_max / 255.0f * point_step(k) * kLog2E; }
float value_unit(const PlaneView& v) { return v.scale_max / 255.0f * point_step(v); }

void start(const SplitCall& call, const Scratch& s) {
  const size_t values = size_t{call.n_queries} * call.v->shape.head_dim;
  for (size_t i = 0; i < values; i += 16) {
    _mm512_storeu_ps(call.acc + i, _mm512_setzero_ps());
    _mm512_storeu_ps(call.acc_rotated + i, _mm512_setzero_ps());
  }
  for (uint32_t query = 0; query < call.n_queries; ++query) {
    s.ref[query] = -kNone, s.off[query] = kNone;
    _mm512_store_ps(s.lanes + size_t{query} * 16, _mm512_setzero_ps());
  }
}

void weigh(const SplitCall& call, const Scratch& s, const BlockFacts& facts, uint32_t first,
           uint32_t n, const int32_t* products) {
  const Part part{call, s, facts, first, n, products};
  if (!facts.v_coded) return weigh_as<Floats>(part);
  has_wide_weights(*call.v) ? weigh_as<BytePairs>(part) : weigh_as<Bytes>(part);
}

void renew_few(const SplitCall& call, const Scratch& s, const Aside& aside, float* pending) {
  const Part part{call, s, *aside.facts, 0, call.n_queries, aside.products, pending};
  renew_far<Bytes, true>(part, tokens_of(*aside.facts), aside.tops);
}

void add_products(const SplitCall& call, const Scratch& s, uint32_t first, uint32_t n, uint32_t d,
                  const int32_t* products) {
  const PlaneView& v = *call.v;
  const __m512 unit = _mm512_set1_ps(value_unit(v));
  float* acc = call.acc_rotated + size_t{first} * v.shape.head_dim + d;
  for (uint32_t i = 0; i < n; ++i, acc += v.shape.head_dim, products += kProductStride) {
    if (d == 0) fetch_share(s, first + i);
    const __m512 gain = _mm512_mul_ps(_mm512_set1_ps(s.gain[first + i]), unit);
#pragma GCC unroll 4
    for (int j = 0; j < 64; j += 16) {
      const __m512 product = _mm512_cvtepi32_ps(_mm512_load_si512(products + j));
      _mm512_storeu_ps(acc + j, _mm512_fmadd_ps(product, gain, _mm512_loadu_ps(acc + j)));
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
