// Llama 2, 3, 3.1 and 3.2, SmolLM2, and Mistral, which may see through a window in every layer.
#include "model/family.h"

namespace polykv {

Status complete_mistral(const Parameters& file, ModelConfig& config) {
  config.rope_interleaved = file.is_gguf() ? 1 : 0;  // GGUF permutes the rows of q and k
  auto fine = refuse_experts(file);
  if (fine) fine = require_silu(file);
  if (fine) fine = read_windows(file, config, 0);
  if (config.windows.tokens >= config.n_positions) config.windows = {};  // it hides nothing
  return fine;
}

Status complete_llama(const Parameters& file, ModelConfig& config) {
  if (file.is_gguf()) return complete_mistral(file, config);  // one name for both
  auto fine = refuse_window(file, config);
  return fine ? complete_mistral(file, config) : fine;
}

}  // namespace polykv
