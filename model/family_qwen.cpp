// Qwen2 and Qwen2.5 (biases of q, k and v), Qwen3 (norms of q and k).
#include "model/family.h"

namespace polykv {
namespace {

// A configuration may name a window and say that it is not used.
Status refuse_used_window(const Parameters& file, const ModelConfig& config) {
  constexpr std::string_view kUsed = "use_sliding_window";
  if (!file.is_gguf() && !file.has(kUsed)) return {};
  if (file.has(kUsed)) {
    auto used = file.flag(kUsed);
    if (!used) return pass(used);
    if (!*used) return {};
  }
  return refuse_window(file, config);
}

}  // namespace

Status complete_qwen2(const Parameters& file, ModelConfig& config) {
  config.rope_interleaved = 0;
  config.features = kQkvBias;
  return refuse_used_window(file, config);
}

Status complete_qwen3(const Parameters& file, ModelConfig& config) {
  config.rope_interleaved = 0;
  config.features = kQkNorm;
  return refuse_used_window(file, config);
}

}  // namespace polykv
