// Start here for reader/: query + encoded plane -> partial attention, in place.
//
//   q (RoPE at P - offset, times 1/sqrt(head_dim)) ─► attend_span ─► Partial, merged over all spans
//
// Attention works on the encoded bytes; at most one tile of 64 tokens is unpacked, in the scratch.
// For rot<b> planes: q.k = q^.w^.s + q.mu, and sum p.v = H^-1(sum p.s.w^) + mu * sum p, so the
// query is rotated once per call and the weighted sum once back. There the vector kernels compute
// in integers: points, queries and weights are rounded to bytes or 16 bits, which costs less than a
// tenth of what the codec costs. The context is walked in fixed splits of kSplitTokens, or, with
// AVX-512, of one tile, joined in order: a query's result does not depend on how many queries share
// the call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "ipc/half.h"
#include "ipc/plane.h"
#include "reader/partial.h"

namespace polykv {

inline constexpr uint32_t kSplitTokens = 512;

// One split of one (layer, KV head): the kernel's whole world. Plain pointers, no checks.
struct SplitCall {
  const PlaneView* k;
  const PlaneView* v;
  uint32_t row_begin, row_end;  // within one split (split_end); no row past it is read
  uint32_t n_queries;
  uint32_t span_begin, span_end;  // rows that are attended to after one another
  const float* q;                 // [n_queries, head_dim] plain, scaled
  const float* q_rotated;         // [n_queries, head_dim] signs and Hadamard applied; rot<b> K only
  const float* q_mean;            // [n_queries] q . mean of K; rot<b> K only
  float* max;  // [n_queries] out: the largest score, or one near it, to which sums are relative
  float* sum;  // [n_queries] out
  float* acc;  // [n_queries, head_dim] out, plain space: sinks, f16, f32, paper_k8, and
               // the mean of V times the weights of its coded rows
  float* acc_rotated;  // [n_queries, head_dim] out, rotated space: rot<b> and paper_v3 V
  float* scratch;      // [split_scratch_floats(n_queries, head_dim)]
};
using SplitFn = void (*)(const SplitCall&);

size_t split_scratch_floats(uint32_t n_queries, uint32_t head_dim);

// Where the split that begins at or holds `row` ends. Splits of coded rows are whole tiles: they
// begin behind the sinks, which belong to the first one.
uint32_t split_end(const PlaneView& k, const PlaneView& v, uint32_t row, uint32_t split_tokens);

// attend_ref is the specification. The others reproduce it within float rounding for plain rows,
// within the rounding to integers for coded ones.
void attend_split_ref(const SplitCall& call);
void attend_split_avx2(const SplitCall& call);
void attend_split_avx512(const SplitCall& call);
void attend_split_avx512vbmi(const SplitCall& call);
void attend_split_amx(const SplitCall& call);
void hadamard_avx512(float* x, uint32_t n);
void to_halves_avx2(const float* x, uint32_t n, uint16_t* halves);  // n: a multiple of 8

struct AttendKernel {
  std::string_view name;  // "ref", "avx2", "avx512" (with VNNI), "avx512vbmi", "amx"
  SplitFn split;
  std::string_view operations{};                    // what by which instructions, for people
  uint32_t split_tokens = kSplitTokens;             // coded rows that it takes at once
  void (*rotate)(float* x, uint32_t n) = hadamard;  // to the same bits as that
  ToHalves to_halves = polykv::to_halves;           // likewise, of a row
};
// What this CPU has the instructions for, the reference first, the best last. Not tested.
std::span<const AttendKernel> attend_kernels();
// Whether a kernel reproduces a known vector.
bool keeps_to_the_specification(const AttendKernel& kernel);

struct AttendChoice {
  AttendKernel kernel;
  std::vector<std::string_view> refused;  // better ones that failed their self-test
};
// The best of `kernels` (the best last) that passes its self-test, and no other is tested: a start
// pays for one. `force` ("" = best) names one. usage error with the choices if it is not there or
// fails.
Result<AttendChoice> choose_attend_kernel(std::string_view force = "",
                                          std::span<const AttendKernel> kernels = attend_kernels());

// Attends n_queries queries to rows [row_begin, row_end) of one (layer, head) and merges the result
// into `states` in order of the tokens. q: [n_queries, head_dim] scaled. states: [n_queries]. work:
// [attend_work_floats(n_queries, head_dim)].
struct SpanCall {
  const PlaneView* k;
  const PlaneView* v;
  uint32_t row_begin, row_end;
  uint32_t n_queries;
  const float* q;
  const Partial* states;
  float* work;
};
size_t attend_work_floats(uint32_t n_queries, uint32_t head_dim);
void attend_span(const AttendKernel& kernel, const SpanCall& call);

}  // namespace polykv
