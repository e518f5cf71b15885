// Gemma 3, text only: norms before and behind each block and of q and k, GeGLU, a scaled embedding,
// and windows in all but the last of every six layers, with a RoPE of their own.
#include <algorithm>
#include <cmath>

#include "model/family.h"
#include "model/gguf.h"

namespace polykv {
namespace {

// Gemma 2 squeezes its logits and attention's scores through a tanh; of Gemma 3 no member does.
Status refuse_capping(const Parameters& file) {
  for (const std::string_view key : {"attn_logit_softcapping", "final_logit_softcapping"}) {
    if (!file.has(key)) continue;
    auto cap = file.number(key);
    if (!cap) return pass(cap);
    if (*cap == 0) continue;
    return unsupported(
        file,
        cat("soft capping of logits (", file.name_of(key), " is ", *cap, ") is not supported"),
        cat(*cap));
  }
  return {};
}

Status refuse_others(const Parameters& file) {
  constexpr std::string_view kActivation = "hidden_activation", kBoth = "bidirectional_attention";
  if (file.has(kActivation)) {
    auto said = file.text(kActivation);
    if (!said) return pass(said);
    if (*said != "gelu_pytorch_tanh") {
      return unsupported(file, cat("the activation ", printable(*said), " is not supported here"),
                         printable(*said));
    }
  }
  if (!file.has(kBoth)) return refuse_capping(file);
  auto both = file.flag(kBoth);
  if (!both) return pass(both);
  if (!*both) return refuse_capping(file);
  return unsupported(
      file, cat("attention in both directions (", file.name_of(kBoth), ") is not supported"),
      file.name_of(kBoth));
}

// Windows of Gemma 3 come with a RoPE of their own, which nothing scales.
Status read_local_rope(const Parameters& file, ModelConfig& config) {
  if (config.windows.tokens == 0) return {};
  constexpr std::string_view kBase = "rope.freq_base_swa", kType = "rope.scaling.type_swa";
  config.rope_local_base = 10000;
  if (file.has(kBase)) {
    auto base = file.number(kBase);
    if (!base) return pass(base);
    config.rope_local_base = static_cast<float>(*base);
  }
  if (!file.has(kType)) return {};
  auto type = file.text(kType);
  if (!type) return pass(type);
  if (*type == "default") return {};
  return unsupported(file,
                     cat("RoPE scaling of the kind ", printable(*type),
                         " in layers with a window is not supported"),
                     printable(*type));
}

Status read_gemma_windows(const Parameters& file, ModelConfig& config) {
  constexpr std::string_view kPeriod = "attention.sliding_window_pattern";
  uint64_t period = 6;
  auto listed = file.windowed_layers();
  if (!listed) return pass(listed);
  if (listed->empty() && file.has(kPeriod)) {
    auto said = file.integer(kPeriod);
    if (!said) return pass(said);
    period = *said;
  }
  auto windows =
      read_windows(file, config, static_cast<uint32_t>(std::min<uint64_t>(period, UINT32_MAX)));
  return windows ? read_local_rope(file, config) : windows;
}

// Attention divides by sqrt(head_dim), the models by the square root of a number of their own. GGUF
// files do not say it: it is the same but for the largest model, known by its layers.
Status read_query_factor(const Parameters& file, ModelConfig& config) {
  constexpr std::string_view kScalar = "query_pre_attn_scalar";
  double scalar = config.head_dim;
  if (file.is_gguf() && config.n_layers == 62) {
    scalar = static_cast<double>(config.d_model) / config.n_heads;
  } else if (file.has(kScalar)) {
    auto said = file.number(kScalar);
    if (!said) return pass(said);
    if (!(*said > 0)) {
      return fail(ErrorCode::bad_model_file,
                  cat(file.place(), ": ", file.name_of(kScalar), " is ", *said, ", wanted above 0"),
                  cat(*said));
    }
    scalar = *said;
  }
  config.query_factor = static_cast<float>(std::sqrt(config.head_dim / scalar));
  return {};
}

}  // namespace

Status complete_gemma3(const Parameters& file, ModelConfig& config) {
  config.rope_interleaved = 0;
  config.features = kQkNorm | kPostNorms | kGeglu | kScaledEmbedding;
  auto done = refuse_others(file);
  if (done) done = read_gemma_windows(file, config);
  return done ? read_query_factor(file, config) : done;
}

}  // namespace polykv
