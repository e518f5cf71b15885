// Pool spans first, in order of position; then the private suffix, row by row, causally.
#include "agents/pool_attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace polykv {

PoolAttention::PoolAttention(const ModelConfig& config, const Layout& layout, Suffix& suffix,
                             const AttendKernel& kernel, ThreadTeam& team)
    : config_(config),
      layout_(layout),
      suffix_(suffix),
      kernel_(kernel),
      team_(team),
      rope_(config),
      group_(config.n_heads / config.n_kv_heads),
      work_(config.n_kv_heads) {
  const uint32_t n_queries = Decoder::kRowsMax * group_;
  for (HeadWork& work : work_) {
    work.q.resize(size_t{n_queries} * config.head_dim);
    work.max.resize(n_queries);
    work.sum.resize(n_queries);
    work.acc.resize(size_t{n_queries} * config.head_dim);
    work.kernel.resize(attend_work_floats(n_queries, config.head_dim));
    for (uint32_t i = 0; i < n_queries; ++i) {
      work.states.push_back({&work.max[i], &work.sum[i], &work.acc[size_t{i} * config.head_dim]});
    }
  }
}

void PoolAttention::attend(const AttentionCall& call) {
  keep(call);
  team_.run(config_.n_kv_heads, 1, [&](uint32_t begin, uint32_t end) {
    for (uint32_t head = begin; head < end; ++head) attend_head(call, head);
  });
}

// Stores the new rows' K (rotated to their absolute positions) and V.
void PoolAttention::keep(const AttentionCall& call) {
  const uint32_t dim = config_.head_dim;
  for (uint32_t r = 0; r < call.n_rows; ++r) {
    const uint32_t row = call.positions[r] - layout_.n_tokens;
    check(row < suffix_.room(), "a token lies outside the reserved private suffix");
    for (uint32_t head = 0; head < config_.n_kv_heads; ++head) {
      const size_t from = (size_t{r} * config_.n_kv_heads + head) * dim;
      float* k = suffix_.k(call.layer, head, row);
      std::copy_n(call.k + from, dim, k);
      rope_.rotate(k, 1, call.positions[r]);
      std::copy_n(call.v + from, dim, suffix_.v(call.layer, head, row));
    }
  }
}

void PoolAttention::attend_head(const AttentionCall& call, uint32_t head) {
  HeadWork& work = work_[head];
  const uint32_t n_queries = call.n_rows * group_;
  for (uint32_t i = 0; i < n_queries; ++i) clear(work.states[i], config_.head_dim);
  for (const Span& span : layout_.spans) {
    load_queries(call, head, span.position_offset);
    attend_span(kernel_, {.k = &span.segment.k(call.layer, head),
                          .v = &span.segment.v(call.layer, head),
                          .row_begin = span.token_begin,
                          .row_end = span.token_end,
                          .n_queries = n_queries,
                          .q = work.q.data(),
                          .states = work.states.data(),
                          .work = work.kernel.data()});
  }
  attend_suffix(call, head);
  for (uint32_t r = 0; r < call.n_rows; ++r) {
    for (uint32_t g = 0; g < group_; ++g) {
      float* out = call.out + (size_t{r} * config_.n_heads + head * group_ + g) * config_.head_dim;
      normalise(work.states[r * group_ + g], config_.head_dim, out);
    }
  }
}

// Queries of one KV head as a segment at `position_offset` sees them: rotated by P - offset,
// scaled.
void PoolAttention::load_queries(const AttentionCall& call, uint32_t head,
                                 int64_t position_offset) {
  const uint32_t dim = config_.head_dim;
  const float scale = 1.0F / std::sqrt(static_cast<float>(dim));
  for (uint32_t r = 0; r < call.n_rows; ++r) {
    const float* from = call.q + (size_t{r} * config_.n_heads + head * group_) * dim;
    float* to = &work_[head].q[size_t{r} * group_ * dim];
    for (uint32_t i = 0; i < group_ * dim; ++i) to[i] = from[i] * scale;
    rope_.rotate(to, group_, int64_t{call.positions[r]} - position_offset);
  }
}

void PoolAttention::attend_suffix(const AttentionCall& call, uint32_t head) {
  HeadWork& work = work_[head];
  load_queries(call, head, 0);
  for (uint32_t r = 0; r < call.n_rows; ++r) {
    const uint32_t n_visible = call.positions[r] - layout_.n_tokens + 1;
    const PlaneView k = suffix_.plane(PlaneKind::k, call.layer, head, n_visible);
    const PlaneView v = suffix_.plane(PlaneKind::v, call.layer, head, n_visible);
    attend_span(kernel_, {.k = &k,
                          .v = &v,
                          .row_begin = 0,
                          .row_end = n_visible,
                          .n_queries = group_,
                          .q = &work.q[size_t{r} * group_ * config_.head_dim],
                          .states = &work.states[size_t{r} * group_],
                          .work = work.kernel.data()});
  }
}

}  // namespace polykv
