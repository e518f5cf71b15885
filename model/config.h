// What a decoder-only transformer of the Llama family is, in numbers.
#pragma once

#include <cstdint>

namespace polykv {

// Stored in the model image: plain, fixed width, never reorder.
struct ModelConfig {
  uint32_t n_layers = 0;
  uint32_t d_model = 0;
  uint32_t n_heads = 0;
  uint32_t n_kv_heads = 0;
  uint32_t head_dim = 0;
  uint32_t d_ff = 0;
  uint32_t n_vocab = 0;
  uint32_t n_positions = 0;  // the model's context length
  float rope_base = 0;       // rotation of pair i: position * rope_base^(-2i/head_dim)
  float rms_eps = 0;
  uint32_t rope_interleaved = 1;  // pairs (2i, 2i+1) as in GGUF; 0: (i, i + head_dim/2)
  uint32_t tied_head = 0;         // the output head is the embedding
  uint32_t reserved[20] = {};
};
static_assert(sizeof(ModelConfig) == 128);

}  // namespace polykv
