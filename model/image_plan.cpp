// The tensors of a model and the ranges of its configuration.
#include "model/image_plan.h"

#include <cmath>

#include "model/weight_layout.h"

namespace polykv {
namespace {

struct LayerTensor {
  TensorRole role;
  const char* name;      // for messages
  uint32_t feature = 0;  // the one that asks for it; 0: every family
};
constexpr LayerTensor kLayerTensors[] = {
    {TensorRole::attn_norm, "attn_norm"},
    {TensorRole::wq, "wq"},
    {TensorRole::q_bias, "q_bias", kQkvBias},
    {TensorRole::wk, "wk"},
    {TensorRole::k_bias, "k_bias", kQkvBias},
    {TensorRole::wv, "wv"},
    {TensorRole::v_bias, "v_bias", kQkvBias},
    {TensorRole::q_norm, "q_norm", kQkNorm},
    {TensorRole::k_norm, "k_norm", kQkNorm},
    {TensorRole::wo, "wo"},
    {TensorRole::attn_post_norm, "attn_post_norm", kPostNorms},
    {TensorRole::ffn_norm, "ffn_norm"},
    {TensorRole::w_gate, "w_gate"},
    {TensorRole::w_up, "w_up"},
    {TensorRole::w_down, "w_down"},
    {TensorRole::ffn_post_norm, "ffn_post_norm", kPostNorms},
};

struct Shape {
  uint32_t rows;
  uint32_t cols;
};

Shape shape_of(TensorRole role, const ModelConfig& c) {
  switch (role) {
    case TensorRole::embedding:
    case TensorRole::head:
      return {c.n_vocab, c.d_model};
    case TensorRole::wq:
      return {c.n_heads * c.head_dim, c.d_model};
    case TensorRole::wk:
    case TensorRole::wv:
      return {c.n_kv_heads * c.head_dim, c.d_model};
    case TensorRole::wo:
      return {c.d_model, c.n_heads * c.head_dim};
    case TensorRole::w_gate:
    case TensorRole::w_up:
      return {c.d_ff, c.d_model};
    case TensorRole::w_down:
      return {c.d_model, c.d_ff};
    case TensorRole::q_bias:
      return {1, c.n_heads * c.head_dim};
    case TensorRole::k_bias:
    case TensorRole::v_bias:
      return {1, c.n_kv_heads * c.head_dim};
    case TensorRole::q_norm:
    case TensorRole::k_norm:
      return {1, c.head_dim};
    default:
      return {1, c.d_model};
  }
}

PlannedTensor planned(TensorRole role, uint16_t layer, std::string name,
                      const ModelConfig& config) {
  const Shape shape = shape_of(role, config);
  return {role, layer, std::move(name), shape.rows, shape.cols, shape.rows == 1};
}

struct Range {
  const char* name;
  uint32_t value;
  uint32_t least;
  uint32_t most;
  uint32_t multiple = 1;
};

std::optional<std::string> out_of(const Range& r) {
  if (r.value >= r.least && r.value <= r.most && r.value % r.multiple == 0) return std::nullopt;
  auto sentence = cat(r.name, " is ", r.value, "; expected ", r.least, " to ", r.most);
  if (r.multiple > 1) sentence += cat(", a multiple of ", r.multiple);
  return sentence;
}

std::optional<std::string> check_rope(const ModelConfig& c) {
  const auto scaling = static_cast<uint32_t>(c.rope_scaling);
  if (scaling > static_cast<uint32_t>(RopeScaling::yarn)) {
    return cat("the RoPE scaling is of the unknown kind ", scaling);
  }
  if (!std::isfinite(c.rope_factor) || c.rope_factor < 1e-3F || c.rope_factor > 1e6F) {
    return cat("the RoPE factor is ", c.rope_factor, "; expected 0.001 to 1e6");
  }
  if (!std::isfinite(c.rope_attention) || c.rope_attention < 1e-2F || c.rope_attention > 1e2F) {
    return cat("the RoPE attention factor is ", c.rope_attention, "; expected 0.01 to 100");
  }
  if (c.rope_scaling != RopeScaling::llama3 && c.rope_scaling != RopeScaling::yarn) {
    return std::nullopt;
  }
  const bool ascending = std::isfinite(c.rope_low) && std::isfinite(c.rope_high) &&
                         c.rope_low > 0 && c.rope_low < c.rope_high;
  if (ascending && c.rope_positions > 0) return std::nullopt;
  return cat("the RoPE scaling mixes between ", c.rope_low, " and ", c.rope_high, " waves in ",
             c.rope_positions, " positions; expected two ascending numbers and a length");
}

std::optional<std::string> check_windows(const ModelConfig& c) {
  if (c.windows.tokens > 1U << 24 || c.windows.period > 1024) {
    return cat("the layers' windows are ", c.windows.tokens, " tokens in periods of ",
               c.windows.period, " layers; expected at most ", 1U << 24, " and 1024");
  }
  const bool none = c.windows.tokens == 0 && (c.windows.period != 0 || c.rope_local_base != 0);
  if (none) return "there are no windows but a period or a RoPE base of theirs";
  const bool based = std::isfinite(c.rope_local_base) &&
                     (c.rope_local_base == 0 || c.rope_local_base >= 1) &&
                     c.rope_local_base <= 1e12F;
  if (based) return std::nullopt;
  return cat("the RoPE base of layers with a window is ", c.rope_local_base,
             "; expected 0 (as the others) or 1 to 1e12");
}

std::optional<std::string> check_numbers(const ModelConfig& c) {
  if (!std::isfinite(c.rope_base) || c.rope_base < 1 || c.rope_base > 1e12F) {
    return cat("the RoPE base is ", c.rope_base, "; expected 1 to 1e12");
  }
  if (!std::isfinite(c.rms_eps) || c.rms_eps <= 0 || c.rms_eps > 0.1F) {
    return cat("the RMS norm's epsilon is ", c.rms_eps, "; expected more than 0, at most 0.1");
  }
  if (auto sentence = check_rope(c)) return sentence;
  if (auto sentence = check_windows(c)) return sentence;
  if (!std::isfinite(c.query_factor) || c.query_factor < 1e-3F || c.query_factor > 1e3F) {
    return cat("the queries' factor is ", c.query_factor, "; expected 0.001 to 1000");
  }
  if ((c.features & ~kFeatures) != 0) return cat("the features ", c.features, " are unknown");
  for (const uint32_t word : c.reserved) {
    if (word != 0) return cat("a reserved field of the configuration is ", word, ", not 0");
  }
  return std::nullopt;
}

}  // namespace

std::vector<PlannedTensor> image_plan(const ModelConfig& config) {
  std::vector<PlannedTensor> plan;
  plan.push_back(planned(TensorRole::embedding, kNoLayer, "embedding", config));
  if (config.tied_head == 0) {
    plan.push_back(planned(TensorRole::head, kNoLayer, "head", config));
  }
  for (uint32_t i = 0; i < config.n_layers; ++i) {
    for (const LayerTensor& tensor : kLayerTensors) {
      if (tensor.feature != 0 && !config.has(tensor.feature)) continue;
      plan.push_back(planned(tensor.role, static_cast<uint16_t>(i),
                             cat(tensor.name, " of layer ", i), config));
    }
  }
  plan.push_back(planned(TensorRole::output_norm, kNoLayer, "output_norm", config));
  return plan;
}

std::optional<std::string> check_config(const ModelConfig& c) {
  const Range ranges[] = {
      {"the number of layers", c.n_layers, 1, 1024},
      {"the model's width", c.d_model, 32, 65536, 32},
      {"the number of attention heads", c.n_heads, 1, 1024},
      {"the number of key/value heads", c.n_kv_heads, 1, 1024},
      {"the feed-forward width", c.d_ff, 32, 1U << 18, 32},
      {"the vocabulary", c.n_vocab, 2, 1U << 22},
      {"the context length", c.n_positions, 1, 1U << 24},
      {"the RoPE pairing", c.rope_interleaved, 0, 1},
      {"the tied-head flag", c.tied_head, 0, 1},
  };
  for (const Range& range : ranges) {
    if (auto sentence = out_of(range)) return sentence;
  }
  if (c.n_heads % c.n_kv_heads != 0) {
    return cat("the number of attention heads, ", c.n_heads,
               ", is not a multiple of that of key/value heads, ", c.n_kv_heads);
  }
  if (c.head_dim != 64 && c.head_dim != 128 && c.head_dim != 256) {
    return cat("head_dim is ", c.head_dim, "; supported are 64, 128 and 256");
  }
  return check_numbers(c);
}

std::optional<WeightBytes> weight_bytes(const Weight& w) {
  const uint64_t cells =
      static_cast<uint64_t>(w.n_rows) * w.n_cols;  // both are range-checked: < 2^44
  const uint64_t grouped = uint64_t{row_groups(w)} * kGroupRows * w.n_cols;
  const bool plain = w.block == 0 && w.has_min == 0;
  if (w.has_min > 1) return std::nullopt;
  switch (w.type) {
    case WeightType::f32:
      return plain ? std::optional(WeightBytes{cells * 4, 0}) : std::nullopt;
    case WeightType::f16:
    case WeightType::bf16:
      return plain ? std::optional(WeightBytes{cells * 2, 0}) : std::nullopt;
    case WeightType::w4:
      if (w.block != 32 || w.has_min != 1 || w.n_cols % 32 != 0) return std::nullopt;
      return WeightBytes{grouped / 2, grouped / 32 * 4};
    case WeightType::w8:
      if ((w.block != 16 && w.block != 32) || w.n_cols % w.block != 0) return std::nullopt;
      return WeightBytes{grouped, grouped / w.block * 2 * (1 + w.has_min)};
  }
  return std::nullopt;
}

}  // namespace polykv
