// Pool spans first, in order of position; then the private suffixes, row by row, causally. A layer
// is cut into (head, part) pairs, which the threads share, the long ones first; their states are
// merged in order.
#include "agents/pool_attention.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace polykv {
namespace {

// Rows that a thread takes at once.
constexpr uint32_t kSuffixRows = 2;
constexpr uint32_t kJoinedRows = 8;

constexpr uint32_t kHeadDimMax = 256;

}  // namespace

PoolAttention::PoolAttention(const ModelConfig& config, const Layout& layout,
                             const AttendKernel& kernel, ThreadTeam& team)
    : config_(config),
      layout_(layout),
      kernel_(kernel),
      team_(team),
      ropes_(config),
      group_(config.n_heads / config.n_kv_heads),
      workers_(std::make_unique<Worker[]>(team.size())) {
  size_t n_parts = 0;  // of a head, at most
  for (Sight& sight : sights_of(config, layout)) {
    n_parts = std::max(n_parts, sight.parts.size());
    const size_t angles = sight.shifts.size() * Decoder::kRowsMax * config.head_dim;
    seen_.push_back({std::move(sight), aligned_array<float>(angles)});
  }
  const size_t n_queries = size_t{Decoder::kRowsMax} * group_;
  const size_t n_states = config.n_kv_heads * (n_parts + 1) * n_queries;
  turned_.reserve(Decoder::kRowsMax);
  std::iota(ordered_.begin(), ordered_.end(), 0);
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

const PoolAttention::Seen& PoolAttention::seen_of(uint32_t layer) const {
  return config_.windows.of(layer) == 0 ? seen_.front() : seen_.back();
}

void PoolAttention::attend(const AttentionCall& call, Suffix* const* suffixes) {
  turn(call);
  const Rows rows{call, suffixes, seen_of(call.layer)};
  for (uint32_t row = 0; row < call.n_rows; ++row) {
    if (is_alone(rows, row)) continue;  // then it is stored where it is attended to
    for (uint32_t head = 0; head < config_.n_kv_heads; ++head) keep(rows, head, row);
  }
  const uint32_t n_groups = (call.n_rows + kSuffixRows - 1) / kSuffixRows;
  const auto n_parts = static_cast<uint32_t>(rows.seen.sight.parts.size());
  const uint32_t n_pieces = config_.n_kv_heads * (n_parts + n_groups);
  const uint32_t rounds = (n_pieces + team_.size() - 1) / team_.size();
  // Dealt to the threads in turns, so that each begins with its share of the long pieces.
  const auto work = [&](uint32_t begin, uint32_t end) {
    Worker& worker = take_worker();
    for (uint32_t i = begin; i < end; ++i) {
      const uint32_t piece = i % rounds * team_.size() + i / rounds;
      if (piece < n_pieces) attend_piece(rows, piece, worker);
    }
    worker.taken.clear(std::memory_order_release);
  };
  // One reference: std::function then needs no memory of its own.
  team_.run(rounds * team_.size(), 1, [&work](uint32_t begin, uint32_t end) { work(begin, end); });
  team_.run(call.n_rows, kJoinedRows, [this, &rows](uint32_t begin, uint32_t end) {
    for (uint32_t row = begin; row < end; ++row) join(rows, row);
  });
}

// The parts of spans of all heads, which take longest; then groups of rows with their suffixes.
void PoolAttention::attend_piece(const Rows& rows, uint32_t piece, Worker& worker) const {
  const auto n_parts = static_cast<uint32_t>(rows.seen.sight.parts.size());
  const uint32_t n_long = config_.n_kv_heads * n_parts;
  if (piece < n_long) return attend_part(rows, piece / n_parts, piece % n_parts, worker);
  const uint32_t n_groups = (rows.call.n_rows + kSuffixRows - 1) / kSuffixRows;
  const uint32_t head = (piece - n_long) / n_groups;
  const uint32_t begin = (piece - n_long) % n_groups * kSuffixRows;
  const uint32_t end = std::min(begin + kSuffixRows, rows.call.n_rows);
  ask_for_suffix(rows, head, begin);
  for (uint32_t row = begin; row < end; ++row) {
    if (row + 1 < end) ask_for_suffix(rows, head, row + 1);
    if (is_alone(rows, row)) keep(rows, head, row);
    attend_suffix(rows, head, row, worker);
  }
}

// Rows of its suffix that a row of the call sees.
PoolAttention::RowRange PoolAttention::seen_suffix(const Rows& rows, uint32_t row) const {
  const uint32_t end = rows.call.positions[row] - layout_.n_tokens + 1;
  const uint32_t window = rows.seen.sight.window;
  return {window == 0 ? 0 : end - std::min(end, window), end};
}

// Asks memory for the first keys that a row will be attended to with: they have not been read since
// the last step. The kernel asks for what follows.
void PoolAttention::ask_for_suffix(const Rows& rows, uint32_t head, uint32_t row) const {
  const RowRange seen = seen_suffix(rows, row);
  const auto keys = rows.suffixes[row]->rows(PlaneKind::k, rows.call.layer, head, seen.begin,
                                             std::min(seen.end, seen.begin + kTileRows));
  for (size_t at = 0; at < keys.size(); at += 64) __builtin_prefetch(keys.data() + at, 0, 2);
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
  for (const Seen& seen : seen_) {
    const Rope& rope = ropes_.at(seen.sight.rope);
    for (uint32_t shift = 0; shift < seen.sight.shifts.size(); ++shift) {
      for (uint32_t r = 0; r < call.n_rows; ++r) {
        float* cos = seen.angles.get() + angle(shift, r);
        rope.angles(int64_t{call.positions[r]} - seen.sight.shifts[shift], cos, cos + half);
      }
    }
  }
  if (config_.windows.tokens == 0) return;
  std::iota(ordered_.begin(), ordered_.begin() + call.n_rows, 0);
  std::ranges::sort(ordered_.begin(), ordered_.begin() + call.n_rows, {},
                    [this](uint32_t row) { return turned_[row]; });
}

// Where a row's cosines are, in floats; the sines follow.
size_t PoolAttention::angle(uint32_t shift, uint32_t row) const {
  return (size_t{shift} * Decoder::kRowsMax + row) * config_.head_dim;
}

// Whether no other row of the call is of the row's suffix: those of one suffix lie together.
bool PoolAttention::is_alone(const Rows& rows, uint32_t row) {
  const auto is_its = [&](uint32_t other) { return rows.suffixes[other] == rows.suffixes[row]; };
  return (row == 0 || !is_its(row - 1)) && (row + 1 == rows.call.n_rows || !is_its(row + 1));
}

// Stores a new row's K of a head (rotated to its absolute position) and V.
void PoolAttention::keep(const Rows& rows, uint32_t head, uint32_t row) const {
  const AttentionCall& call = rows.call;
  const uint32_t dim = config_.head_dim, at = call.positions[row] - layout_.n_tokens;
  const Suffix& suffix = *rows.suffixes[row];
  check(at < suffix.room(), "a token lies outside the reserved private suffix");
  const float* cos = rows.seen.angles.get() + angle(0, row);
  const size_t from = (size_t{row} * config_.n_kv_heads + head) * dim;
  std::array<float, kHeadDimMax> k;
  std::copy_n(call.k + from, dim, k.data());
  ropes_.at(rows.seen.sight.rope).apply(k.data(), 1, cos, cos + dim / 2);
  suffix.put(PlaneKind::k, call.layer, head, at, k.data(), kernel_.to_halves);
  suffix.put(PlaneKind::v, call.layer, head, at, call.v + from, kernel_.to_halves);
}

// Empty states of some rows, one after the other, and their queries as the part wants them.
void PoolAttention::start(const Rows& rows, uint32_t head, uint32_t part, Chosen chosen,
                          Worker& worker) const {
  const std::vector<Part>& parts = rows.seen.sight.parts;
  for (uint32_t i = 0; i < chosen.size() * group_; ++i) {
    worker.states[i] = state(rows, head, part, chosen[i / group_] * group_ + i % group_);
    clear(worker.states[i], config_.head_dim);
  }
  load_queries(rows, head, part < parts.size() ? parts[part].shift : 0, chosen, worker.q.get());
}

void PoolAttention::attend_part(const Rows& rows, uint32_t head, uint32_t part,
                                Worker& worker) const {
  const Sight& sight = rows.seen.sight;
  const Part& all = sight.parts[part];
  const Chosen ordered(ordered_.data(), rows.call.n_rows);
  start(rows, head, part, ordered, worker);
  if (sight.window != 0) return attend_window(rows, head, all, worker);
  attend_rows(rows, head, all, {0, rows.call.n_rows}, worker);
}

// Rows that see all from some tile on share it; what each sees of the tile before is its own. That
// depends on the row's position alone, not on who shares the pass.
void PoolAttention::attend_window(const Rows& rows, uint32_t head, const Part& part,
                                  Worker& worker) const {
  const Sight& sight = rows.seen.sight;
  const SegmentView& segment = part.span->segment;
  const PlaneView &k = segment.k(rows.call.layer, head), &v = segment.v(rows.call.layer, head);
  const auto first_seen = [&](uint32_t i) {
    return sight.first_seen(part, rows.call.positions[ordered_[i]]);
  };
  const auto shared_from = [&](uint32_t i) {
    const uint32_t row = first_seen(i);
    return row == part.begin ? row : std::min(next_tile(k, v, row), part.end);
  };
  for (uint32_t begin = 0, end = 0; begin < rows.call.n_rows; begin = end) {
    const uint32_t shared = shared_from(begin);
    for (end = begin; end < rows.call.n_rows && shared_from(end) == shared; ++end) {
      Part own = part;
      own.begin = first_seen(end), own.end = shared;
      attend_rows(rows, head, own, {end, end + 1}, worker);
    }
    Part rest = part;
    rest.begin = shared;
    attend_rows(rows, head, rest, {begin, end}, worker);
  }
}

// Some of the rows that were started.
void PoolAttention::attend_rows(const Rows& rows, uint32_t head, const Part& part, RowRange started,
                                Worker& worker) const {
  const uint32_t query = started.begin * group_;
  attend_span(kernel_, {.k = &part.span->segment.k(rows.call.layer, head),
                        .v = &part.span->segment.v(rows.call.layer, head),
                        .row_begin = part.begin,
                        .row_end = part.end,
                        .n_queries = (started.end - started.begin) * group_,
                        .q = worker.q.get() + size_t{query} * config_.head_dim,
                        .states = worker.states.data() + query,
                        .work = worker.work.get()});
}

void PoolAttention::attend_suffix(const Rows& rows, uint32_t head, uint32_t row,
                                  Worker& worker) const {
  const AttentionCall& call = rows.call;
  const Sight& sight = rows.seen.sight;
  const Suffix& suffix = *rows.suffixes[row];
  const RowRange seen = seen_suffix(rows, row);
  const PlaneView k = suffix.plane(PlaneKind::k, call.layer, head, seen.end);
  const PlaneView v = suffix.plane(PlaneKind::v, call.layer, head, seen.end);
  start(rows, head, static_cast<uint32_t>(sight.parts.size()), {&row, 1}, worker);
  attend_span(kernel_, {.k = &k,
                        .v = &v,
                        .row_begin = seen.begin,
                        .row_end = seen.end,
                        .n_queries = group_,
                        .q = worker.q.get(),
                        .states = worker.states.data(),
                        .work = worker.work.get()});
}

// Queries of one KV head as a segment with that offset sees them: rotated by P - offset, scaled.
void PoolAttention::load_queries(const Rows& rows, uint32_t head, uint32_t shift, Chosen chosen,
                                 float* to) const {
  const uint32_t dim = config_.head_dim;
  const float scale = 1.0F / std::sqrt(static_cast<float>(dim));
  const Rope& rope = ropes_.at(rows.seen.sight.rope);
  for (const uint32_t r : chosen) {
    const float* from = rows.call.q + (size_t{r} * config_.n_heads + head * group_) * dim;
    for (uint32_t i = 0; i < group_ * dim; ++i) to[i] = from[i] * scale;
    const float* cos = rows.seen.angles.get() + angle(shift, r);
    rope.apply(to, group_, cos, cos + dim / 2);
    to += size_t{group_} * dim;
  }
}

// A (head, part)'s of a query; the part after those of spans is the suffix.
Partial PoolAttention::state(const Rows& rows, uint32_t head, uint32_t part, uint32_t query) const {
  const size_t n_queries = size_t{rows.call.n_rows} * group_;
  const size_t at = (head * (rows.seen.sight.parts.size() + 1) + part) * n_queries + query;
  return {&max_[at], &sum_[at], &acc_[at * config_.head_dim]};
}

// Merges a row's parts into the first, in order, and writes its output.
void PoolAttention::join(const Rows& rows, uint32_t row) const {
  const size_t n_parts = rows.seen.sight.parts.size();
  float* out = rows.call.out + size_t{row} * config_.n_heads * config_.head_dim;
  for (uint32_t i = 0; i < config_.n_heads; ++i, out += config_.head_dim) {
    const uint32_t head = i / group_, query = row * group_ + i % group_;
    const Partial whole = state(rows, head, 0, query);
    for (uint32_t part = 1; part <= n_parts; ++part) {
      merge(whole, state(rows, head, part, query), config_.head_dim);
    }
    normalise(whole, config_.head_dim, out);
  }
}

}  // namespace polykv
