// Only this file and prefill_*.cpp see libtorch. It is used for attention and for products with
// weights that are not packed; the rest are our own loops. Its exceptions stop in prefill().
#include "model/prefill.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/silu.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <memory>

#include "model/heads.h"
#include "model/kernels.h"
#include "model/prefill_attend.h"
#include "model/prefill_packed.h"
#include "model/prefill_path.h"
#include "model/prefill_split.h"
#include "model/prefill_tiles.h"
#include "model/residual.h"
#include "model/rope.h"
#include "model/threads.h"
#include "model/weight_layout.h"

namespace polykv {
namespace {

constexpr int64_t kFfnChunk = 2048;    // tokens per feed-forward pass: bounds gate and up
constexpr int64_t kSplitChunk = 1024;  // tokens in halves at a time
constexpr int64_t kVocabChunk = 8192;  // rows of the head dequantised at a time
constexpr uint32_t kRowGrain = 64;

at::Tensor floats(at::IntArrayRef shape) { return at::empty(shape, at::kFloat); }
at::Tensor halves(at::IntArrayRef shape) { return at::empty(shape, at::kBFloat16); }
uint16_t* bits(const at::Tensor& t) { return static_cast<uint16_t*>(t.mutable_data_ptr()); }
float* data(const at::Tensor& t) { return t.mutable_data_ptr<float>(); }

class Pass {
 public:
  Pass(const ModelImage& image, const PrefillJob& job, unsigned n_threads);
  Status run();

 private:
  void embed();
  void norm(const float* weight);
  at::Tensor weight_rows(const Weight& w, uint32_t begin, uint32_t end);
  at::Tensor split_weight_rows(const Weight& w, uint32_t begin, uint32_t end);
  at::Tensor linear(const at::Tensor& x, const at::Tensor& w);
  at::Tensor product(const at::Tensor& x, const Weight& w, at::Tensor& buffer);
  at::Tensor made_in(at::Tensor& buffer, int64_t n_rows, int64_t n_cols) const;
  void make_angles();
  size_t angles_at(uint32_t layer, size_t position) const;
  void rotate(uint32_t layer, float* x, uint32_t n_heads, uint32_t first_position);
  void keys_and_values(uint32_t index);
  at::Tensor queries(const LayerWeights& layer, const at::Tensor& normed);
  at::Tensor query_sample(uint32_t index, const at::Tensor& q);
  Status hand_over(uint32_t index, const at::Tensor& q);
  void attend(uint32_t index, const at::Tensor& rows);
  void add_rows(const at::Tensor& y, int64_t first, const float* post_norm);
  void feed_forward(const LayerWeights& layer);
  void feed_forward_plain(const LayerWeights& layer);
  void write_logits();

  const ModelImage& image_;
  const PrefillJob& job_;
  const ModelConfig& config_;
  ThreadTeam team_;
  LayerRopes ropes_;
  PrefillPath path_;
  std::unique_ptr<PackedLayers> packed_;  // null: packed weights are dequantised
  int64_t n_, past_, d_, kv_heads_, head_dim_;
  std::vector<float> cos_, sin_;   // [ropes, past + n, head_dim / 2]
  std::vector<uint32_t> sampled_;  // tokens whose queries are handed over
  at::Tensor x_, normed_;          // [n, d]
  at::Tensor made_, queries_;      // where products go, those of queries apart
  at::Tensor k_, v_;               // [past + n, n_kv_heads, head_dim], K at absolute positions
};

Pass::Pass(const ModelImage& image, const PrefillJob& job, unsigned n_threads)
    : image_(image),
      job_(job),
      config_(image.config()),
      team_(n_threads),
      ropes_(config_),
      path_(prefill_path(job)),
      n_(static_cast<int64_t>(job.tokens.size())),
      past_(job.past_tokens),
      d_(config_.d_model),
      kv_heads_(config_.n_kv_heads),
      head_dim_(config_.head_dim),
      sampled_(query_tokens(static_cast<uint32_t>(n_))),
      x_(floats({n_, d_})),
      normed_(floats({n_, d_})),
      k_(floats({past_ + n_, kv_heads_, head_dim_})),
      v_(floats({past_ + n_, kv_heads_, head_dim_})) {
  make_angles();
  if (!path_.packed) return;
  packed_ = std::make_unique<PackedProducts>(*job.kernels, team_, config_);
#ifdef __x86_64__
  if (path_.tiles) packed_ = std::make_unique<TileProducts>(team_, config_);
#endif
}

void Pass::make_angles() {
  const size_t half = config_.head_dim / 2;
  const auto n_positions = static_cast<size_t>(past_ + n_);
  cos_.resize(ropes_.n() * n_positions * half);
  sin_.resize(cos_.size());
  for (size_t i = 0; i < ropes_.n() * n_positions; ++i) {
    ropes_.at(static_cast<uint32_t>(i / n_positions))
        .angles(static_cast<int64_t>(i % n_positions), &cos_[i * half], &sin_[i * half]);
  }
}

void Pass::embed() {
  for (size_t i = 0; i < job_.tokens.size(); ++i) {
    embed_token(image_, job_.tokens[i], data(x_) + i * config_.d_model);
  }
}

void Pass::norm(const float* weight) {
  const float* x = data(x_);
  float* out = data(normed_);
  team_.run(static_cast<uint32_t>(n_), kRowGrain, [&](uint32_t begin, uint32_t end) {
    for (size_t at = size_t{begin} * config_.d_model; at < size_t{end} * config_.d_model;
         at += config_.d_model) {
      rms_norm(x + at, weight, config_.d_model, config_.rms_eps, out + at);
    }
  });
}

// Rows [begin, end) of a weight as f32, or in halves.
at::Tensor Pass::weight_rows(const Weight& w, uint32_t begin, uint32_t end) {
  if (path_.split) return split_weight_rows(w, begin, end);
  at::Tensor rows = floats({end - begin, w.n_cols});
  float* out = data(rows);
  team_.run(end - begin, kRowGrain, [&](uint32_t from, uint32_t to) {
    for (uint32_t r = from; r < to; ++r) dequantise_row(w, begin + r, out + size_t{r} * w.n_cols);
  });
  return rows;
}

// The same in halves: [end - begin, 2, n_cols], lo before hi.
at::Tensor Pass::split_weight_rows(const Weight& w, uint32_t begin, uint32_t end) {
  at::Tensor rows = halves({end - begin, 2, w.n_cols});
  uint16_t* out = bits(rows);
  team_.run(end - begin, kRowGrain, [&](uint32_t from, uint32_t to) {
    std::vector<float> row(w.n_cols);
    for (uint32_t r = from; r < to; ++r) {
      dequantise_row(w, begin + r, row.data());
      uint16_t* lo = out + size_t{r} * 2 * w.n_cols;
      split_avx512(row.data(), w.n_cols, lo + w.n_cols, lo);
    }
  });
  return rows;
}

// x: [n, n_cols], w as weight_rows() gives it: [n, n_outputs] comes back.
at::Tensor Pass::linear(const at::Tensor& x, const at::Tensor& w) {
  if (!path_.split) return at::linear(x, w);
  const int64_t n = x.size(0), n_cols = x.size(1), n_outputs = w.size(0);
  at::Tensor y = floats({n, n_outputs});
  const at::Tensor part = halves({std::min(n, kSplitChunk), 2, n_cols});
  for (int64_t begin = 0; begin < n; begin += kSplitChunk) {
    const int64_t rows = std::min(n - begin, kSplitChunk);
    split_rows(team_, data(x) + begin * n_cols, static_cast<size_t>(rows),
               static_cast<size_t>(n_cols), bits(part));
    multiply_split({.n_rows = static_cast<int>(rows),
                    .n_outputs = static_cast<int>(n_outputs),
                    .n_cols = static_cast<int>(n_cols),
                    .x = bits(part),
                    .w = bits(w),
                    .y = data(y) + begin * n_outputs});
  }
  return y;
}

// [n_rows, n_cols] at the beginning of a buffer that serves all layers: memory that is new to a
// process costs as much as what is done in it.
at::Tensor Pass::made_in(at::Tensor& buffer, int64_t n_rows, int64_t n_cols) const {
  const int64_t widest = std::max(d_, int64_t{config_.n_heads} * head_dim_);
  if (!buffer.defined()) buffer = floats({n_ * widest});
  return buffer.narrow(0, 0, n_rows * n_cols).view({n_rows, n_cols});
}

at::Tensor Pass::product(const at::Tensor& x, const Weight& w, at::Tensor& buffer) {
  if (!packed_ || !is_packed(w)) return linear(x, weight_rows(w, 0, w.n_rows));
  at::Tensor y = made_in(buffer, x.size(0), w.n_rows);
  packed_->multiply(w, data(x), static_cast<uint32_t>(x.size(0)), data(y));
  return y;
}

// Where a layer's angles of a position begin.
size_t Pass::angles_at(uint32_t layer, size_t position) const {
  const size_t table = ropes_.index_of(layer) * static_cast<size_t>(past_ + n_);
  return (table + position) * (config_.head_dim / 2);
}

// x: [n, n_heads, head_dim], row i at position first_position + i.
void Pass::rotate(uint32_t layer, float* x, uint32_t n_heads, uint32_t first_position) {
  const size_t width = size_t{n_heads} * config_.head_dim;
  const Rope& rope = ropes_.of(layer);
  team_.run(static_cast<uint32_t>(n_), kRowGrain, [&](uint32_t begin, uint32_t end) {
    for (size_t i = begin; i < end; ++i) {
      const size_t at = angles_at(layer, first_position + i);
      rope.apply(x + i * width, n_heads, &cos_[at], &sin_[at]);
    }
  });
}

// K (not yet rotated) and V of the new tokens, behind those of the past.
void Pass::keys_and_values(uint32_t index) {
  const LayerWeights& layer = image_.layer(index);
  norm(layer.attn_norm);
  k_.narrow(0, past_, n_).copy_(product(normed_, layer.wk, made_).view({n_, kv_heads_, head_dim_}));
  v_.narrow(0, past_, n_).copy_(product(normed_, layer.wv, made_).view({n_, kv_heads_, head_dim_}));
  const size_t behind_past = static_cast<size_t>(past_ * kv_heads_ * head_dim_);
  finish_heads(
      config_, layer,
      {static_cast<uint32_t>(n_), nullptr, data(k_) + behind_past, data(v_) + behind_past});
  if (past_ > 0) job_.past(index, data(k_), data(v_));
}

// Not yet rotated. normed: [n, d], of any tokens.
at::Tensor Pass::queries(const LayerWeights& layer, const at::Tensor& normed) {
  at::Tensor rows = product(normed, layer.wq, queries_);
  finish_heads(config_, layer, {static_cast<uint32_t>(rows.size(0)), data(rows), nullptr, nullptr});
  return rows;
}

// Queries of the sampled tokens at local positions: rows of q, [n, n_heads * head_dim], or computed
// alone where a layer's queries are not needed otherwise (undefined q).
at::Tensor Pass::query_sample(uint32_t index, const at::Tensor& q) {
  const at::Tensor& from = q.defined() ? q : normed_;
  const auto width = static_cast<size_t>(from.size(1));
  at::Tensor rows = floats({static_cast<int64_t>(sampled_.size()), from.size(1)});
  for (size_t i = 0; i < sampled_.size(); ++i) {
    std::copy_n(data(from) + sampled_[i] * width, width, data(rows) + i * width);
  }
  if (!q.defined()) rows = queries(image_.layer(index), rows);
  float* row = data(rows);
  for (const uint32_t token : sampled_) {
    const size_t at = angles_at(index, token);
    ropes_.of(index).apply(row, config_.n_heads, &cos_[at], &sin_[at]);
    row += size_t{config_.n_heads} * config_.head_dim;
  }
  return rows;
}

// Segments hold K at positions local to themselves, attention wants them absolute. q: as above.
Status Pass::hand_over(uint32_t index, const at::Tensor& q) {
  const size_t behind_past = static_cast<size_t>(past_ * kv_heads_ * head_dim_);
  float* k = data(k_) + behind_past;
  at::Tensor local = past_ > 0 ? k_.narrow(0, past_, n_).clone() : k_;
  rotate(index, data(local), config_.n_kv_heads, 0);
  if (past_ > 0) rotate(index, k, config_.n_kv_heads, job_.past_tokens);
  if (!job_.layer_done) return {};
  const at::Tensor sample = query_sample(index, q);
  return job_.layer_done({index, data(local), data(v_) + behind_past, sampled_, data(sample)});
}

// rows: the layer's queries, not yet rotated.
void Pass::attend(uint32_t index, const at::Tensor& rows) {
  const LayerWeights& layer = image_.layer(index);
  rotate(index, data(rows), config_.n_heads, job_.past_tokens);
  prefill_attend({.team = team_,
                  .precision = path_.attention,
                  .n = n_,
                  .past = past_,
                  .n_kv_heads = kv_heads_,
                  .group = config_.n_heads / config_.n_kv_heads,
                  .head_dim = head_dim_,
                  .window = config_.windows.of(index),
                  .k = data(k_),
                  .v = data(v_),
                  .rows = data(rows)});
  add_rows(product(rows, layer.wo, made_), 0, layer.attn_post_norm);
}

// To the rows from `first` on.
void Pass::add_rows(const at::Tensor& y, int64_t first, const float* post_norm) {
  float* from = data(y);
  float* to = data(x_) + first * d_;
  team_.run(static_cast<uint32_t>(y.size(0)), kRowGrain, [&](uint32_t begin, uint32_t end) {
    for (int64_t at = begin * d_; at < end * d_; at += d_) {
      add_to_residual(config_, post_norm, from + at, to + at);
    }
  });
}

void Pass::feed_forward(const LayerWeights& layer) {
  norm(layer.ffn_norm);
  if (!packed_ || !PackedLayers::takes_feed_forward(layer)) return feed_forward_plain(layer);
  const at::Tensor y = made_in(made_, n_, d_);
  packed_->feed_forward(layer, data(normed_), static_cast<uint32_t>(n_), data(y));
  add_rows(y, 0, layer.ffn_post_norm);
}

void Pass::feed_forward_plain(const LayerWeights& layer) {
  const at::Tensor gate = weight_rows(layer.w_gate, 0, layer.w_gate.n_rows);
  const at::Tensor up = weight_rows(layer.w_up, 0, layer.w_up.n_rows);
  const at::Tensor down = weight_rows(layer.w_down, 0, layer.w_down.n_rows);
  for (int64_t begin = 0; begin < n_; begin += kFfnChunk) {
    const int64_t rows = std::min(n_ - begin, kFfnChunk);
    const at::Tensor in = normed_.narrow(0, begin, rows);
    at::Tensor hidden = linear(in, gate);
    if (config_.has(kGeglu)) {
      at::gelu_(hidden, "tanh");
    } else {
      at::silu_(hidden);
    }
    hidden.mul_(linear(in, up));
    add_rows(linear(hidden, down), begin, layer.ffn_post_norm);
  }
}

void Pass::write_logits() {
  norm(image_.output_norm());
  const int64_t n_vocab = config_.n_vocab;
  job_.logits->resize(static_cast<size_t>(n_ * n_vocab));
  at::Tensor out = at::from_blob(job_.logits->data(), {n_, n_vocab}, at::kFloat);
  for (int64_t begin = 0; begin < n_vocab; begin += kVocabChunk) {
    const int64_t end = std::min(n_vocab, begin + kVocabChunk);
    const at::Tensor rows =
        weight_rows(image_.head(), static_cast<uint32_t>(begin), static_cast<uint32_t>(end));
    out.narrow(1, begin, end - begin).copy_(linear(normed_, rows));
  }
}

Status Pass::run() {
  embed();
  for (uint32_t layer = 0; layer < config_.n_layers; ++layer) {
    keys_and_values(layer);
    const bool goes_on = layer + 1 < config_.n_layers || job_.logits != nullptr;
    at::Tensor q = goes_on ? queries(image_.layer(layer), normed_) : at::Tensor();
    if (Status done = hand_over(layer, q); !done) return done;
    if (goes_on) {
      attend(layer, q);
      q.reset();  // not beside the feed-forward's
      feed_forward(image_.layer(layer));
    }
    if (job_.progress) job_.progress(layer + 1, config_.n_layers);
  }
  if (job_.logits != nullptr) write_logits();
  return {};
}

}  // namespace

Status prefill(const ModelImage& image, const PrefillJob& job, unsigned n_threads) {
  if (Status ok = check_prefill(image.config(), job); !ok) return ok;
  try {
    c10::InferenceMode inference;
    at::set_num_threads(static_cast<int>(std::max(n_threads, 1u)));
    return Pass(image, job, std::max(n_threads, 1u)).run();
  } catch (const std::bad_alloc&) {
    return fail(ErrorCode::memory_limit,
                cat("memory ran out during a prefill of ", job.tokens.size(),
                    " tokens: prefill less at a time"),
                cat(job.tokens.size()));
  } catch (const std::exception& error) {
    return fail(ErrorCode::internal, cat("libtorch failed during the prefill: ", error.what()));
  }
}

}  // namespace polykv
