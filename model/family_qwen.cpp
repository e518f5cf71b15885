// Qwen2 and Qwen2.5 (biases of q, k and v), Qwen3 (norms of q and k).
#include <algorithm>

#include "model/family.h"

namespace polykv {
namespace {

// A configuration may name a window and say that it is not used, or only from some layer on.
Status read_used_window(const Parameters& file, ModelConfig& config) {
  constexpr std::string_view kUsed = "use_sliding_window", kFirst = "max_window_layers";
  if (file.is_gguf()) return refuse_window(file, config);
  auto used = file.has(kUsed) ? file.flag(kUsed) : false;
  if (!used) return pass(used);
  auto listed = file.windowed_layers();
  if (!listed) return pass(listed);
  if (!*used && std::ranges::count(*listed, true) > 0) {
    return unsupported(file, "layer_types names windows that use_sliding_window denies",
                       "layer_types");
  }
  if (!*used) return {};
  if (!listed->empty()) return set_windows(file, config, *listed, "layer_types");
  auto first = file.integer(kFirst);
  if (!first) return pass(first);
  std::vector<bool> layers(config.n_layers);
  for (uint32_t i = 0; i < config.n_layers; ++i) layers[i] = i >= *first;
  return set_windows(file, config, layers, std::string(kFirst));
}

Status complete(const Parameters& file, ModelConfig& config, uint32_t features) {
  config.rope_interleaved = 0;
  config.features = features;
  auto fine = require_silu(file);
  return fine ? read_used_window(file, config) : fine;
}

}  // namespace

Status complete_qwen2(const Parameters& file, ModelConfig& config) {
  return complete(file, config, kQkvBias);
}

Status complete_qwen3(const Parameters& file, ModelConfig& config) {
  return complete(file, config, kQkNorm);
}

}  // namespace polykv
