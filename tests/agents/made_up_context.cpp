// Contexts of made-up rows: their segments, and attention by the textbook.
#include "tests/agents/made_up_context.h"

#include <gtest/gtest.h>

#include <numeric>

#include "model/rope.h"
#include "tests/model/plain_attention.h"

namespace polykv::test {

// The rows of a call, in its order.
struct MadeUpContext::Gathered {
  uint32_t layer;
  const std::vector<uint32_t>& positions;
  std::vector<float> q{}, k{}, v{};

  Gathered(const MadeUpContext& from, uint32_t of_layer, const std::vector<uint32_t>& at)
      : layer(of_layer), positions(at) {
    for (const uint32_t position : at) {
      add(q, from.q_[layer], position, from.width());
      add(k, from.k_[layer], position, from.kv_width());
      add(v, from.v_[layer], position, from.kv_width());
    }
  }
  static void add(std::vector<float>& to, const std::vector<float>& rows, size_t row, size_t n) {
    to.insert(to.end(), rows.begin() + row * n, rows.begin() + (row + 1) * n);
  }
  AttentionCall call(float* out) const {
    const auto n = static_cast<uint32_t>(positions.size());
    return {layer, n, positions.data(), q.data(), k.data(), v.data(), out};
  }
};

ModelConfig windowed_config(uint32_t window, float local_base) {
  ModelConfig config;
  config.n_layers = 3;
  config.n_heads = 4;
  config.n_kv_heads = 2;
  config.head_dim = 64;
  config.n_positions = 1 << 20;
  config.rope_base = 10000;
  config.rope_interleaved = 0;
  if (window != 0) config.windows = {.tokens = window, .period = 3};
  config.rope_local_base = local_base;
  return config;
}

MadeUpContext::MadeUpContext(const ModelConfig& config, uint32_t n_tokens)
    : config_(config), n_tokens_(n_tokens) {
  fill(q_, config.n_heads, 2);
  fill(k_, config.n_kv_heads, 1);
  fill(v_, config.n_kv_heads, 1);
}

void MadeUpContext::fill(Rows& rows, uint32_t n_heads, float size) {
  rows.resize(config_.n_layers);
  for (auto& layer : rows) {
    layer.resize(size_t{n_tokens_} * n_heads * config_.head_dim);
    for (float& x : layer) x = size * normal_(random_);
  }
}

void MadeUpContext::change(uint32_t begin, uint32_t end) {
  for (Rows* rows : {&k_, &v_}) {
    for (auto& layer : *rows) {
      for (size_t i = begin * kv_width(); i < end * kv_width(); ++i) layer[i] = normal_(random_);
    }
  }
}

Layout MadeUpContext::layout(const std::vector<uint32_t>& lengths, const char* codec) const {
  Layout layout;
  layout.version = 1;
  for (const uint32_t n : lengths) {
    auto view = SegmentView::open(sealed(layout.n_tokens, n, codec), Verify::everything);
    EXPECT_TRUE(view) << view.error().message;
    layout.spans.push_back({std::move(*view), 0, n, int64_t{layout.n_tokens}});
    layout.n_tokens += n;
  }
  return layout;
}

UniqueFd MadeUpContext::sealed(uint32_t begin, uint32_t n_tokens, const char* codec) const {
  SegmentSpec spec;
  spec.shape = config_.kv_shape();
  spec.codec = *parse_codec(codec);
  spec.starts_context = begin == 0;
  spec.tokens.resize(n_tokens);
  spec.k_codecs = k_codecs_;
  auto builder = SegmentBuilder::create(spec, {});
  EXPECT_TRUE(builder) << builder.error().message;
  const LayerRopes ropes(config_);
  for (uint32_t layer = 0; layer < config_.n_layers; ++layer) {
    std::vector<float> k(k_[layer].begin() + begin * kv_width(),
                         k_[layer].begin() + (begin + n_tokens) * kv_width());
    for (uint32_t t = 0; t < n_tokens; ++t) {
      ropes.of(layer).rotate(&k[t * kv_width()], config_.n_kv_heads, t);
    }
    builder->put_layer(layer, k.data(), &v_[layer][begin * kv_width()]);
  }
  return std::move(*std::move(*builder).seal());
}

MadeUpContext::Rows MadeUpContext::attended() const {
  PlainAttention plain(config_);
  std::vector<uint32_t> positions(n_tokens_);
  std::iota(positions.begin(), positions.end(), 0);
  Rows out(config_.n_layers);
  for (uint32_t layer = 0; layer < config_.n_layers; ++layer) {
    out[layer].resize(q_[layer].size());
    plain.attend(Gathered(*this, layer, positions).call(out[layer].data()));
  }
  return out;
}

MadeUpContext::Rows MadeUpContext::attended_as_encoded(const Layout& layout) const {
  MadeUpContext decoded = *this;
  for (const Span& span : layout.spans) {
    for (uint32_t layer = 0; layer < config_.n_layers; ++layer) decoded.decode(span, layer);
  }
  return decoded.attended();
}

void MadeUpContext::decode(const Span& span, uint32_t layer) {
  const LayerRopes ropes(config_);
  const uint32_t dim = config_.head_dim, first = span.segment.first_token(layer);
  for (uint32_t t = first; t < span.token_end; ++t) {
    const size_t row = (static_cast<size_t>(span.position_offset) + t) * config_.n_kv_heads;
    for (uint32_t head = 0; head < config_.n_kv_heads; ++head) {
      decode_row(span.segment.k(layer, head), t - first, &k_[layer][(row + head) * dim]);
      decode_row(span.segment.v(layer, head), t - first, &v_[layer][(row + head) * dim]);
    }
    ropes.of(layer).rotate(&k_[layer][row * dim], config_.n_kv_heads, -int64_t{t});
  }
}

std::vector<float> MadeUpContext::attend(PoolAttention& attention, uint32_t layer,
                                         const std::vector<uint32_t>& positions,
                                         const std::vector<Suffix*>& suffixes) const {
  std::vector<float> out(positions.size() * width());
  attention.attend(Gathered(*this, layer, positions).call(out.data()), suffixes.data());
  return out;
}

}  // namespace polykv::test
