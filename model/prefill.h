// Layer-major prefill: all new tokens go through layer l before layer l+1 starts. Peak memory,
// whatever the model's depth: one layer of K/V (of the past too), activations of about
// n x (4 d_model) floats, and for each thread 128 x (3 d_ff) of them (on tiles of bfloat16
// 256 x (d_ff + d_model) halves of that). Where weights are not packed, or in f32, one layer of
// them dequantised and 2,048 x (2 d_ff) floats more. Attention in bfloat16 halves: one KV head's
// 3 x n x (group + 1) x head_dim; in bfloat16, K and V once more.
#pragma once

#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "model/image.h"
#include "model/kernels.h"

namespace polykv {

// One finished layer of the new tokens. Valid during the call only.
struct LayerKv {
  uint32_t layer;
  const float* k;  // [n_tokens, n_kv_heads, head_dim] after RoPE at positions 0, 1, … (local)
  const float* v;  // [n_tokens, n_kv_heads, head_dim]
  // Queries of some of these tokens, for whoever wants to know what an error in K does to scores.
  // q: [query_tokens.size(), n_heads, head_dim] after RoPE at the same local positions, unscaled.
  std::span<const uint32_t> query_tokens;
  const float* q;
};
// Of so many new tokens, those whose queries a LayerKv holds: spread evenly, ascending, the last
// token among them.
inline constexpr uint32_t kQueryTokens = 32;  // at most
std::vector<uint32_t> query_tokens(uint32_t n_tokens);

// f32:  products and attention by libtorch in f32, everywhere.
// best: products with packed weights by the decoder's kernels, on them as they lie; where the
//       processor has AMX, attention and other products on sums of two bfloat16: a KLD of 4e-6.
// fast: there, with the decoder's kernels on AMX, activations at packed weights and attention in
//       bfloat16, sums in f32: 1e-4, a tenth of what codecs of 4 bits and fewer cost.
enum class PrefillPrecision { f32, best, fast };
constexpr std::string_view name_of(PrefillPrecision precision) {
  constexpr std::string_view kNames[] = {"f32", "best", "fast"};
  return kNames[static_cast<int>(precision)];
}

struct PrefillJob {
  std::span<const uint32_t> tokens;  // [n_tokens] new tokens
  uint32_t past_tokens = 0;          // tokens before them: absolute position of the first new one
  // Fills one layer's K (RoPE at absolute positions) and V of the past. k, v: [past_tokens,
  // n_kv_heads, head_dim]. Of a layer with a window only the last window - 1 are read; the others
  // may stay as they are.
  std::function<void(uint32_t layer, float* k, float* v)> past;
  std::function<Status(const LayerKv&)> layer_done;           // an error ends the prefill
  std::function<void(uint32_t done, uint32_t all)> progress;  // layers; may be empty
  PrefillPrecision precision = PrefillPrecision::best;
  const Kernels* kernels = nullptr;  // for packed weights; null: these by libtorch, too
  bool tiles = true;                 // may be taken: not if they failed their self-test
  std::vector<float>* logits =
      nullptr;  // if set: [n_tokens, n_vocab] (tests); else the last layer stops after K/V
};

// What prefill() refuses before it begins: no tokens or strange ones, too many for the model.
Status check_prefill(const ModelConfig& config, const PrefillJob& job);
// context_too_long past the model's positions, memory_limit if memory runs out on the way.
Status prefill(const ModelImage& image, const PrefillJob& job, unsigned n_threads);

}  // namespace polykv
