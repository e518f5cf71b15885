// What a decoder-only transformer of the families that this build runs is, in numbers.
#pragma once

#include <cstdint>

#include "ipc/kv_shape.h"

namespace polykv {

// How the frequencies of RoPE are changed for longer contexts. Stored: never renumber.
enum class RopeScaling : uint32_t {
  none = 0,
  linear = 1,  // all divided by rope_factor
  llama3 = 2,  // long waves divided by rope_factor, short ones kept, those between mixed
  yarn = 3,    // the same, mixed along the pairs, and longer vectors (arXiv 2309.00071)
};

// What a family adds to the Llama 2 block. Bits of ModelConfig::features; stored: never renumber.
inline constexpr uint32_t kQkvBias = 1;    // biases of q, k and v
inline constexpr uint32_t kQkNorm = 2;     // an RMS norm of each head of q and k, before RoPE
inline constexpr uint32_t kPostNorms = 4;  // RMS norms of what attention and feed-forward add
inline constexpr uint32_t kGeglu = 8;      // the gate goes through GELU (by tanh), not SiLU
inline constexpr uint32_t kScaledEmbedding = 16;  // times sqrt(d_model), rounded to bfloat16
inline constexpr uint32_t kFeatures = 31;         // all of them

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
  float rope_base = 0;       // rotation of pair i: position * rope_base^(-2i/head_dim), scaled
  float rms_eps = 0;
  uint32_t rope_interleaved = 1;  // pairs (2i, 2i+1) as in GGUF; 0: (i, i + head_dim/2)
  uint32_t tied_head = 0;         // the output head is the embedding
  uint32_t features = 0;          // kQkvBias | …
  RopeScaling rope_scaling = RopeScaling::none;
  float rope_factor = 1;
  float rope_low = 0, rope_high = 0;  // waves per rope_positions where mixing begins, ends
  uint32_t rope_positions = 0;        // the context length before scaling
  LayerWindows windows;
  float rope_local_base = 0;  // RoPE of layers with a window, never scaled; 0: as in the others
  float rope_attention = 1;   // yarn: by what rotated vectors grow, q and k alike
  float query_factor = 1;     // of q before attention, which divides by sqrt(head_dim)
  uint32_t reserved[9] = {};

  bool has(uint32_t feature) const { return (features & feature) != 0; }
  KvShape kv_shape() const { return {n_layers, n_kv_heads, head_dim, windows}; }
};
static_assert(sizeof(ModelConfig) == 128);

}  // namespace polykv
