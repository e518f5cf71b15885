// A context without a model: made-up queries, keys and values of every position and layer, their
// beginning in segments, and what textbook attention makes of them.
#pragma once

#include <random>
#include <vector>

#include "agents/pool_attention.h"

namespace polykv::test {

// Three layers; the first two have a window and, if it is told, a RoPE base of their own.
ModelConfig windowed_config(uint32_t window, float local_base = 500);

class MadeUpContext {
 public:
  using Rows = std::vector<std::vector<float>>;  // [n_layers][n_tokens, heads, head_dim]

  MadeUpContext(const ModelConfig& config, uint32_t n_tokens);
  // Other keys and values at these positions.
  void change(uint32_t begin, uint32_t end);

  // From now on segments hold K in these codecs, [n_layers, n_kv_heads].
  void widen(const std::vector<PlaneCodec>& k_codecs) { k_codecs_ = k_codecs; }

  // Segments of so many tokens each, one after the other.
  Layout layout(const std::vector<uint32_t>& lengths, const char* codec) const;

  // Of every position, by the textbook: [n_layers][n_tokens, n_heads, head_dim].
  Rows attended() const;
  // The same with those keys and values that a layout's segments encode, where they hold some.
  Rows attended_as_encoded(const Layout& layout) const;
  // One layer of rows at those positions in one call; what comes before is there already.
  // Returns [n, n_heads, head_dim]. suffixes: whose each row is.
  std::vector<float> attend(PoolAttention& attention, uint32_t layer,
                            const std::vector<uint32_t>& positions,
                            const std::vector<Suffix*>& suffixes) const;

  const ModelConfig& config() const { return config_; }
  size_t width() const { return size_t{config_.n_heads} * config_.head_dim; }  // of a row's output

 private:
  struct Gathered;
  size_t kv_width() const { return size_t{config_.n_kv_heads} * config_.head_dim; }
  void fill(Rows& rows, uint32_t n_heads, float size);
  UniqueFd sealed(uint32_t begin, uint32_t n_tokens, const char* codec) const;
  void decode(const Span& span, uint32_t layer);

  ModelConfig config_;
  uint32_t n_tokens_;
  std::mt19937 random_{1};
  std::normal_distribution<float> normal_;
  Rows q_, k_, v_;  // before RoPE
  std::vector<PlaneCodec> k_codecs_;
};

}  // namespace polykv::test
