// Pool spans first, in order of position; then the private suffixes, row by row, causally. A layer
// is cut into (head, part) pairs, which the threads share; their states are merged in order.
#include "agents/pool_attention.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace polykv {
namespace {

// Rows that a thread takes at once.
constexpr uint32_t kSuffixRows = 4;
constexpr uint32_t kJoinedRows = 8;

// Rows of a span that one thread attends to at a time. Each part costs two rotations a query, but
// two threads should find work in the same head. It depends on the span alone: it is part of the
// order in which sums are taken.
uint32_t part_tokens(uint32_t n_tokens) {
  constexpr uint32_t kMost = 4 * kSplitTokens;
  return std::clamp(std::bit_ceil(n_tokens / 2), kSplitTokens, kMost);
}

}  // namespace

PoolAttention::PoolAttention(const ModelConfig& config, const Layout& layout,
                             const AttendKernel& kernel, ThreadTeam& team)
    : config_(config),
      layout_(layout),
      kernel_(kernel),
      team_(team),
      rope_(config),
      group_(config.n_heads / config.n_kv_heads),
      shifts_{0},
      workers_(std::make_unique<Worker[]>(team.size())) {
  for (const Span& span : layout.spans) add_parts(span);
  const size_t n_queries = size_t{Decoder::kRowsMax} * group_;
  const size_t n_states = config.n_kv_heads * (parts_.size() + 1) * n_queries;
  turned_.reserve(Decoder::kRowsMax);
  angles_ = aligned_array<float>(shifts_.size() * Decoder::kRowsMax * config.head_dim);
  max_ = aligned_array<float>(n_states);
  sum_ = aligned_array<float>(n_states);
  acc_ = aligned_array<float>(n_states * config.head_dim);
  for (unsigned i = 0; i < team.size(); ++i) {
    workers_[i].q = aligned_array<float>(n_queries * config.head_dim);
    workers_[i].work =
        aligned_array<float>(attend_work_floats(static_cast<uint32_t>(n_queries), config.head_dim));
    workers_[i].states.resize(n_queries);
  }
}

void PoolAttention::add_parts(const Span& span) {
  const uint32_t shift = shift_of(span.position_offset);
  const uint32_t step = part_tokens(span.token_end - span.token_begin);
  for (uint32_t begin = span.token_begin; begin < span.token_end; begin += step) {
    parts_.push_back({&span, begin, begin + std::min(span.token_end - begin, step), shift});
  }
}

uint32_t PoolAttention::shift_of(int64_t position_offset) {
  const auto found = std::ranges::find(shifts_, position_offset);
  const auto index = static_cast<uint32_t>(found - shifts_.begin());
  if (found == shifts_.end()) shifts_.push_back(position_offset);
  return index;
}

void PoolAttention::attend(const AttentionCall& call, Suffix* const* suffixes) {
  const Rows rows{call, suffixes};
  turn(call);
  keep(rows);
  const uint32_t n_groups = (call.n_rows + kSuffixRows - 1) / kSuffixRows;
  const uint32_t in_head = static_cast<uint32_t>(parts_.size()) + n_groups;
  const auto work = [&](uint32_t begin, uint32_t end) {
    Worker& worker = take_worker();
    for (uint32_t i = begin; i < end; ++i) attend_piece(rows, i / in_head, i % in_head, worker);
    worker.taken.clear(std::memory_order_release);
  };
  // One reference: std::function then needs no memory of its own.
  team_.run(config_.n_kv_heads * in_head, 1,
            [&work](uint32_t begin, uint32_t end) { work(begin, end); });
  team_.run(call.n_rows, kJoinedRows, [this, &call](uint32_t begin, uint32_t end) {
    for (uint32_t row = begin; row < end; ++row) join(call, row);
  });
}

// Of a head: the parts of spans, then groups of rows with their suffixes.
void PoolAttention::attend_piece(const Rows& rows, uint32_t head, uint32_t piece,
                                 Worker& worker) const {
  const auto n_parts = static_cast<uint32_t>(parts_.size());
  if (piece < n_parts) return attend_part(rows, head, piece, worker);
  const uint32_t begin = (piece - n_parts) * kSuffixRows;
  const uint32_t end = std::min(begin + kSuffixRows, rows.call.n_rows);
  for (uint32_t row = begin; row < end; ++row) attend_suffix(rows, head, row, worker);
}

// There are as many as threads.
PoolAttention::Worker& PoolAttention::take_worker() {
  for (uint32_t i = 0;; i = (i + 1) % team_.size()) {
    if (!workers_[i].taken.test_and_set(std::memory_order_acquire)) return workers_[i];
  }
}

// Angles of the rows as every span sees them, once for all layers of a step.
void PoolAttention::turn(const AttentionCall& call) {
  const std::span positions(call.positions, call.n_rows);
  if (std::ranges::equal(positions, turned_)) return;
  turned_.assign(positions.begin(), positions.end());
  const uint32_t half = config_.head_dim / 2;
  for (uint32_t shift = 0; shift < shifts_.size(); ++shift) {
    for (uint32_t r = 0; r < call.n_rows; ++r) {
      float* cos = &angles_[(size_t{shift} * Decoder::kRowsMax + r) * config_.head_dim];
      rope_.angles(int64_t{call.positions[r]} - shifts_[shift], cos, cos + half);
    }
  }
}

const float* PoolAttention::cos_of(uint32_t shift, uint32_t row) const {
  return &angles_[(size_t{shift} * Decoder::kRowsMax + row) * config_.head_dim];
}

// Stores the new rows' K (rotated to their absolute positions) and V.
void PoolAttention::keep(const Rows& rows) const {
  const AttentionCall& call = rows.call;
  const uint32_t dim = config_.head_dim;
  for (uint32_t r = 0; r < call.n_rows; ++r) {
    Suffix& suffix = *rows.suffixes[r];
    const uint32_t row = call.positions[r] - layout_.n_tokens;
    check(row < suffix.room(), "a token lies outside the reserved private suffix");
    const float* cos = cos_of(0, r);
    for (uint32_t head = 0; head < config_.n_kv_heads; ++head) {
      const size_t from = (size_t{r} * config_.n_kv_heads + head) * dim;
      float* k = suffix.k(call.layer, head, row);
      std::copy_n(call.k + from, dim, k);
      rope_.apply(k, 1, cos, cos + dim / 2);
      std::copy_n(call.v + from, dim, suffix.v(call.layer, head, row));
    }
  }
}

// Empty states of rows [begin, end), and their queries as the part wants them.
void PoolAttention::start(const Rows& rows, uint32_t head, uint32_t part, RowRange range,
                          Worker& worker) const {
  const uint32_t n_queries = rows.call.n_rows * group_;
  for (uint32_t i = range.begin * group_; i < range.end * group_; ++i) {
    Partial& own = worker.states[i - range.begin * group_];
    own = state(n_queries, head, part, i);
    clear(own, config_.head_dim);
  }
  const uint32_t shift = part < parts_.size() ? parts_[part].shift : 0;
  load_queries(rows.call, head, shift, range, worker.q.get());
}

void PoolAttention::attend_part(const Rows& rows, uint32_t head, uint32_t part,
                                Worker& worker) const {
  const AttentionCall& call = rows.call;
  const Part& tokens = parts_[part];
  start(rows, head, part, {0, call.n_rows}, worker);
  attend_span(kernel_, {.k = &tokens.span->segment.k(call.layer, head),
                        .v = &tokens.span->segment.v(call.layer, head),
                        .row_begin = tokens.begin,
                        .row_end = tokens.end,
                        .n_queries = call.n_rows * group_,
                        .q = worker.q.get(),
                        .states = worker.states.data(),
                        .work = worker.work.get()});
}

void PoolAttention::attend_suffix(const Rows& rows, uint32_t head, uint32_t row,
                                  Worker& worker) const {
  const AttentionCall& call = rows.call;
  const Suffix& suffix = *rows.suffixes[row];
  const uint32_t n_visible = call.positions[row] - layout_.n_tokens + 1;
  const PlaneView k = suffix.plane(PlaneKind::k, call.layer, head, n_visible);
  const PlaneView v = suffix.plane(PlaneKind::v, call.layer, head, n_visible);
  start(rows, head, static_cast<uint32_t>(parts_.size()), {row, row + 1}, worker);
  attend_span(kernel_, {.k = &k,
                        .v = &v,
                        .row_begin = 0,
                        .row_end = n_visible,
                        .n_queries = group_,
                        .q = worker.q.get(),
                        .states = worker.states.data(),
                        .work = worker.work.get()});
}

// Queries of one KV head as a segment with that offset sees them: rotated by P - offset, scaled.
void PoolAttention::load_queries(const AttentionCall& call, uint32_t head, uint32_t shift,
                                 RowRange range, float* to) const {
  const uint32_t dim = config_.head_dim;
  const float scale = 1.0F / std::sqrt(static_cast<float>(dim));
  for (uint32_t r = range.begin; r < range.end; ++r, to += size_t{group_} * dim) {
    const float* from = call.q + (size_t{r} * config_.n_heads + head * group_) * dim;
    for (uint32_t i = 0; i < group_ * dim; ++i) to[i] = from[i] * scale;
    rope_.apply(to, group_, cos_of(shift, r), cos_of(shift, r) + dim / 2);
  }
}

// A (head, part)'s of a query; the part after those of spans is the suffix.
Partial PoolAttention::state(uint32_t n_queries, uint32_t head, uint32_t part,
                             uint32_t query) const {
  const size_t at = (head * (parts_.size() + 1) + part) * n_queries + query;
  return {&max_[at], &sum_[at], &acc_[at * config_.head_dim]};
}

// Merges a row's parts into the first, in order, and writes its output.
void PoolAttention::join(const AttentionCall& call, uint32_t row) const {
  const uint32_t n_queries = call.n_rows * group_;
  float* out = call.out + size_t{row} * config_.n_heads * config_.head_dim;
  for (uint32_t i = 0; i < config_.n_heads; ++i, out += config_.head_dim) {
    const uint32_t head = i / group_, query = row * group_ + i % group_;
    const Partial whole = state(n_queries, head, 0, query);
    for (uint32_t part = 1; part <= parts_.size(); ++part) {
      merge(whole, state(n_queries, head, part, query), config_.head_dim);
    }
    normalise(whole, config_.head_dim, out);
  }
}

}  // namespace polykv
