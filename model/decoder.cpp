// The native forward pass, layer by layer. Every product is divided into parts of output rows; a
// part computes all of a step's rows, so that each weight is read once.
#include "model/decoder.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "model/heads.h"
#include "model/residual.h"

namespace polykv {
namespace {

// More parts than threads, so that a thread that lost its core does not hold up the others.
uint32_t parts_of(const ThreadTeam& team) { return team.size() == 1 ? 1 : team.size() * 4; }

constexpr uint32_t kRowsAtOnce = 4;  // fewer are not worth another thread

// The output rows of one part, on a 16-row grid: parts do not share cache lines.
struct Slice {
  uint32_t begin, end;
  Slice(uint32_t n_rows, uint32_t part, uint32_t parts)
      : begin(border(n_rows, part, parts)), end(border(n_rows, part + 1, parts)) {}
  static uint32_t border(uint32_t n_rows, uint32_t part, uint32_t parts) {
    const uint64_t grid = (uint64_t{n_rows} + 15) / 16;
    return static_cast<uint32_t>(std::min<uint64_t>(n_rows, grid * part / parts * 16));
  }
};

using Floats = std::unique_ptr<float[], FreeAligned>;

Floats floats(size_t n) { return aligned_array<float>(n); }

}  // namespace

struct Decoder::Buffers {
  Buffers(const ModelImage& model, const Kernels& set, ThreadTeam& threads);

  Activations operand(const float* in, uint32_t rows, uint32_t cols) const;
  void matmul(const Weight& w, const Activations& in, float* out, uint32_t part) const;
  void product(const Weight& w, const float* in, float* out) const;
  void attention_inputs(const LayerWeights& layer, const Activations& in, uint32_t part) const;
  void gated(const LayerWeights& layer, const Activations& in, uint32_t part) const;
  template <class Work>
  void in_parts(const Work& work) const;
  template <class Work>
  void over_rows(uint32_t rows, const Work& work) const;

  Activations norm(const float* weight) const;
  void norm_row(const float* weight, uint32_t row, uint32_t to) const;
  void embed(std::span<const uint32_t> tokens) const;
  void attend(uint32_t index, Attention& attention);
  void feed_forward(const LayerWeights& layer);
  void logits(std::span<const uint32_t> wanted, float* out) const;

  const ModelImage& image;
  const Kernels& kernels;
  ThreadTeam& team;
  const ModelConfig& config;
  const uint32_t q_width, kv_width, parts, widest, scratch_floats;
  uint32_t n = 0;                       // rows of the present step
  const uint32_t* positions = nullptr;  // [n]
  bool block_done = false;              // normed holds what the last block adds to x
  const float* post_norm = nullptr;     // of that
  Floats x, normed;                     // [kRowsMax, d_model]
  Floats q, attended;                   // [kRowsMax, n_heads * head_dim]
  Floats k, v;                          // [kRowsMax, n_kv_heads * head_dim]
  Floats gate, up;                      // [kRowsMax, d_ff]
  Floats scratch;                       // [parts, scratch_floats]
  ActivationBuffer quantised;
};

Decoder::Buffers::Buffers(const ModelImage& model, const Kernels& set, ThreadTeam& threads)
    : image(model),
      kernels(set),
      team(threads),
      config(model.config()),
      q_width(config.n_heads * config.head_dim),
      kv_width(config.n_kv_heads * config.head_dim),
      parts(parts_of(threads)),
      widest(std::max({config.d_model, config.d_ff, q_width})),
      scratch_floats(matmul_scratch_floats(widest)),
      x(floats(size_t{kRowsMax} * config.d_model)),
      normed(floats(size_t{kRowsMax} * config.d_model)),
      q(floats(size_t{kRowsMax} * q_width)),
      attended(floats(size_t{kRowsMax} * q_width)),
      k(floats(size_t{kRowsMax} * kv_width)),
      v(floats(size_t{kRowsMax} * kv_width)),
      gate(floats(size_t{kRowsMax} * config.d_ff)),
      up(floats(size_t{kRowsMax} * config.d_ff)),
      scratch(floats(size_t{parts} * scratch_floats)),
      quantised(kRowsMax, widest) {}

// Captures one reference only: std::function then needs no memory of its own.
template <class Work>
void Decoder::Buffers::over_rows(uint32_t rows, const Work& work) const {
  team.run(rows, kRowsAtOnce, [&work](uint32_t begin, uint32_t end) { work(begin, end); });
}

// Quantises the rows; the operand before is gone.
Activations Decoder::Buffers::operand(const float* in, uint32_t rows, uint32_t cols) const {
  const Activations made = quantised.of(in, rows, cols);
  over_rows(rows, [&](uint32_t begin, uint32_t end) { kernels.quantise(made, begin, end); });
  return made;
}

void Decoder::Buffers::matmul(const Weight& w, const Activations& in, float* out,
                              uint32_t part) const {
  const Slice rows(w.n_rows, part, parts);
  kernels.matmul(w, in, rows.begin, rows.end, out, scratch.get() + size_t{part} * scratch_floats);
}

void Decoder::Buffers::product(const Weight& w, const float* in, float* out) const {
  const Activations made = operand(in, n, w.n_cols);
  in_parts([&](uint32_t part) { matmul(w, made, out, part); });
}

template <class Work>
void Decoder::Buffers::in_parts(const Work& work) const {
  team.run(parts, 1, [&work](uint32_t begin, uint32_t end) {
    for (uint32_t part = begin; part < end; ++part) work(part);
  });
}

// Row `row` with what the last block gave it, normed into row `to` <= `row`.
void Decoder::Buffers::norm_row(const float* weight, uint32_t row, uint32_t to) const {
  const size_t width = config.d_model;
  float* own = x.get() + row * width;
  if (block_done) add_to_residual(config, post_norm, normed.get() + row * width, own);
  rms_norm(own, weight, config.d_model, config.rms_eps, normed.get() + to * width);
}

// All rows so, as the operand of the next block.
Activations Decoder::Buffers::norm(const float* weight) const {
  const Activations made = quantised.of(normed.get(), n, config.d_model);
  over_rows(n, [&](uint32_t begin, uint32_t end) {
    for (uint32_t m = begin; m < end; ++m) norm_row(weight, m, m);
    kernels.quantise(made, begin, end);
  });
  return made;
}

void Decoder::Buffers::embed(std::span<const uint32_t> tokens) const {
  for (uint32_t m = 0; m < n; ++m) {
    embed_token(image, tokens[m], x.get() + size_t{m} * config.d_model);
  }
}

void Decoder::Buffers::attention_inputs(const LayerWeights& layer, const Activations& in,
                                        uint32_t part) const {
  matmul(layer.wq, in, q.get(), part);
  matmul(layer.wk, in, k.get(), part);
  matmul(layer.wv, in, v.get(), part);
}

void Decoder::Buffers::attend(uint32_t index, Attention& attention) {
  const LayerWeights& layer = image.layer(index);
  const Activations in = norm(layer.attn_norm);
  in_parts([&](uint32_t part) { attention_inputs(layer, in, part); });
  finish_heads(config, layer, {n, q.get(), k.get(), v.get()});
  attention.attend({.layer = index,
                    .n_rows = n,
                    .positions = positions,
                    .q = q.get(),
                    .k = k.get(),
                    .v = v.get(),
                    .out = attended.get()});
  product(layer.wo, attended.get(), normed.get());
  block_done = true;
  post_norm = layer.attn_post_norm;
}

// A part's own rows of gate and up meet here, without another round of the team.
void Decoder::Buffers::gated(const LayerWeights& layer, const Activations& in,
                             uint32_t part) const {
  matmul(layer.w_gate, in, gate.get(), part);
  matmul(layer.w_up, in, up.get(), part);
  const Slice rows(config.d_ff, part, parts);
  const GatedFn activate = config.has(kGeglu) ? kernels.geglu : kernels.swiglu;
  for (uint32_t m = 0; m < n; ++m) {
    const size_t at = size_t{m} * config.d_ff + rows.begin;
    activate(gate.get() + at, up.get() + at, rows.end - rows.begin);
  }
}

void Decoder::Buffers::feed_forward(const LayerWeights& layer) {
  const Activations in = norm(layer.ffn_norm);
  in_parts([&](uint32_t part) { gated(layer, in, part); });
  product(layer.w_down, gate.get(), normed.get());
  block_done = true;
  post_norm = layer.ffn_post_norm;
}

void Decoder::Buffers::logits(std::span<const uint32_t> wanted, float* out) const {
  const auto n_wanted = static_cast<uint32_t>(wanted.size());
  for (uint32_t i = 0; i < n_wanted; ++i) norm_row(image.output_norm(), wanted[i], i);
  const Activations in = operand(normed.get(), n_wanted, config.d_model);
  in_parts([&](uint32_t part) { matmul(image.head(), in, out, part); });
}

Decoder::Decoder(const ModelImage& image, const Kernels& kernels, ThreadTeam& team)
    : buffers_(std::make_unique<Buffers>(image, kernels, team)) {}

Decoder::~Decoder() = default;

void Decoder::step(const StepCall& call, Attention& attention) {
  Buffers& b = *buffers_;
  check(!call.tokens.empty() && call.tokens.size() <= kRowsMax,
        "a decoder step takes 1 to 64 tokens");
  for (const uint32_t token : call.tokens) {
    check(token < b.config.n_vocab, "a token outside the vocabulary reached the decoder");
  }
  for (const uint32_t row : call.wanted) {
    check(row < call.tokens.size(), "a decoder step was asked for logits of a row it lacks");
  }
  b.n = static_cast<uint32_t>(call.tokens.size());
  b.positions = call.positions;
  b.block_done = false;
  b.embed(call.tokens);
  for (uint32_t layer = 0; layer < b.config.n_layers; ++layer) {
    b.attend(layer, attention);
    b.feed_forward(b.image.layer(layer));
  }
  if (!call.wanted.empty()) b.logits(call.wanted, call.logits);
}

void Decoder::step(std::span<const uint32_t> tokens, uint32_t position, Attention& attention,
                   uint32_t n_logits, float* logits) {
  check(tokens.size() <= kRowsMax && n_logits <= tokens.size(),
        "a decoder step was asked for more logits than rows");
  std::array<uint32_t, kRowsMax> positions, rows;
  std::iota(positions.begin(), positions.end(), position);
  std::iota(rows.begin(), rows.end(), 0);
  const std::span wanted(rows.data() + (tokens.size() - n_logits), n_logits);
  step({tokens, positions.data(), wanted, logits}, attention);
}

}  // namespace polykv
