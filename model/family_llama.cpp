// Llama 2, 3, 3.1 and 3.2, SmolLM2, and Mistral without a sliding window.
#include "model/family.h"

namespace polykv {

Status complete_llama(const Parameters& file, ModelConfig& config) {
  config.rope_interleaved = file.is_gguf() ? 1 : 0;  // GGUF permutes the rows of q and k
  auto fine = refuse_experts(file);
  return fine ? refuse_window(file, config) : fine;
}

}  // namespace polykv
