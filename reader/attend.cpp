// Attention of queries to a span: rotate the queries once, walk the splits, rotate the sums back
// once.
#include "reader/attend.h"

#include <algorithm>
#include <utility>

#include "reader/avx512_block.h"

namespace polykv {
namespace {

// Buffers start with cache lines: what crosses two takes twice the time.
constexpr size_t kLine = 16;  // floats
constexpr size_t in_lines(size_t n) { return (n + kLine - 1) / kLine * kLine; }

// Buffers of one call, cut from the caller's floats.
struct Work {
  float* q_rotated;  // [n_queries, head_dim]
  float* q_mean;     // [n_queries]
  SplitCall split;   // outputs of one split
  float* max;        // the span's state so far, like the split's
  float* sum;
  float* acc;
  float* acc_rotated;
};

Work cut_work(const SpanCall& call) {
  const size_t rows = call.n_queries;
  const size_t values = rows * call.k->shape.head_dim;
  const size_t past = reinterpret_cast<uintptr_t>(call.work) / sizeof(float) % kLine;
  float* next = call.work + (kLine - past) % kLine;
  const auto take = [&next](size_t n) { return std::exchange(next, next + in_lines(n)); };
  Work work{};
  work.q_rotated = take(values);
  work.q_mean = take(rows);
  work.split.acc = take(values);
  work.split.acc_rotated = take(values);
  work.acc = take(values);
  work.acc_rotated = take(values);
  work.split.max = take(rows);
  work.split.sum = take(rows);
  work.max = take(rows);
  work.sum = take(rows);
  work.split.scratch = next;
  return work;
}

// q -> H(signs * q), and q . mean.
void rotate_query(const AttendKernel& kernel, const PlaneView& k, const float* q, float* rotated,
                  float* mean) {
  const uint32_t dim = k.shape.head_dim;
  const auto signs = sign_vector(dim);
  double lanes[8] = {};  // one chain of additions would take longer than all the rest
  for (uint32_t d = 0; d < dim; d += 8) {
    for (uint32_t i = 0; i < 8; ++i) {
      rotated[d + i] = q[d + i] * signs[d + i];
      lanes[i] += static_cast<double>(q[d + i]) * k.mean[d + i];
    }
  }
  kernel.rotate(rotated, dim);
  *mean = static_cast<float>(((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
                             ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7])));
}

// A span that is one split needs no state beside that one's.
void use_as_whole(Work& work) {
  work.max = work.split.max;
  work.sum = work.split.sum;
  work.acc = work.split.acc;
  work.acc_rotated = work.split.acc_rotated;
}

void start(const AttendKernel& kernel, const SpanCall& call, Work& work) {
  const uint32_t dim = call.k->shape.head_dim;
  work.split.k = call.k;
  work.split.v = call.v;
  work.split.span_begin = call.row_begin;
  work.split.span_end = call.row_end;
  work.split.n_queries = call.n_queries;
  work.split.q = call.q;
  work.split.q_rotated = work.q_rotated;
  work.split.q_mean = work.q_mean;
  for (uint32_t query = 0; query < call.n_queries; ++query) {
    const size_t first = size_t{query} * dim;
    if (is_rotated(call.k->shape.codec)) {
      rotate_query(kernel, *call.k, call.q + first, work.q_rotated + first, work.q_mean + query);
    }
  }
}

void clear_state(const SpanCall& call, const Work& work) {
  const uint32_t dim = call.k->shape.head_dim;
  for (uint32_t query = 0; query < call.n_queries; ++query) {
    clear({work.max + query, work.sum + query, work.acc + size_t{query} * dim}, dim);
  }
  std::fill_n(work.acc_rotated, size_t{call.n_queries} * dim, 0.0f);
}

bool has_rotated_values(const PlaneView& v) {
  return is_rotated(v.shape.codec) || v.shape.codec == PlaneCodec::paper_v3;
}

// Adds the finished split to the span's state.
void join_split(const SpanCall& call, const Work& work) {
  const uint32_t dim = call.v->shape.head_dim;
  const SplitCall& split = work.split;
  for (uint32_t query = 0; query < call.n_queries; ++query) {
    const size_t first = size_t{query} * dim;
    const MergeFactors factors =
        merge_weights(work.max + query, work.sum + query, split.max[query], split.sum[query]);
    merge_values(work.acc + first, split.acc + first, factors, dim);
    if (!has_rotated_values(*call.v)) continue;
    merge_values(work.acc_rotated + first, split.acc_rotated + first, factors, dim);
  }
}

// Brings the rotated sums back, as rotate_back() does, and hands the span's state to the caller's.
void finish(const AttendKernel& kernel, const SpanCall& call, const Work& work) {
  const uint32_t dim = call.v->shape.head_dim;
  const bool coded = is_rotated(call.v->shape.codec);
  const auto signs = sign_vector(dim);
  for (uint32_t query = 0; query < call.n_queries; ++query) {
    float* acc = work.acc + size_t{query} * dim;
    if (has_rotated_values(*call.v)) {
      float* rotated = work.acc_rotated + size_t{query} * dim;
      kernel.rotate(rotated, dim);
      for (uint32_t d = 0; d < dim; ++d) acc[d] += coded ? rotated[d] * signs[d] : rotated[d];
    }
    merge(call.states[query], {work.max + query, work.sum + query, acc}, dim);
  }
}

}  // namespace

// Scores with room on both sides, queries and weights as integers and their steps; a tile of
// floats, its codes as bytes with room behind, and alignment. Or what the AVX-512 kernels hold.
size_t split_scratch_floats(uint32_t n_queries, uint32_t head_dim) {
  const size_t per_query = kSplitTokens + 3 * kTileRows + head_dim / 2 + kTileRows / 2 + 3;
  const size_t whole =
      n_queries * per_query + size_t{kTileRows} * head_dim + size_t{kTileRows} * head_dim / 4 + 48;
  return std::max(whole, avx512::scratch_floats(n_queries, head_dim));
}

uint32_t split_end(const PlaneView& k, const PlaneView& v, uint32_t row, uint32_t split_tokens) {
  const uint32_t sinks = is_rotated(k.shape.codec) ? k.shape.n_sinks : v.shape.n_sinks;
  const uint32_t coded = row < sinks ? 0 : row - sinks;
  return sinks + (coded / split_tokens + 1) * split_tokens;
}

size_t attend_work_floats(uint32_t n_queries, uint32_t head_dim) {
  const size_t values = in_lines(size_t{n_queries} * head_dim), rows = in_lines(n_queries);
  return kLine + 5 * values + 5 * rows + split_scratch_floats(n_queries, head_dim);
}

void attend_span(const AttendKernel& kernel, const SpanCall& call) {
  if (call.row_begin >= call.row_end || call.n_queries == 0) return;
  Work work = cut_work(call);
  start(kernel, call, work);
  const auto end_of_split = [&](uint32_t row) {
    return std::min(call.row_end, split_end(*call.k, *call.v, row, kernel.split_tokens));
  };
  const bool is_whole = end_of_split(call.row_begin) == call.row_end;
  is_whole ? use_as_whole(work) : clear_state(call, work);
  for (uint32_t row = call.row_begin; row < call.row_end; row = work.split.row_end) {
    work.split.row_begin = row;
    work.split.row_end = end_of_split(row);
    kernel.split(work.split);
    if (!is_whole) join_split(call, work);
  }
  finish(kernel, call, work);
}

}  // namespace polykv
