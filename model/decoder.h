// The native forward pass: tokens in, logits out, one readable loop, attention behind one hook.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "model/image.h"
#include "model/kernels.h"
#include "model/threads.h"

namespace polykv {

// What a layer asks of attention. Before RoPE, because keys and queries are rotated where segments
// lie.
struct AttentionCall {
  uint32_t layer;
  uint32_t n_rows;
  const uint32_t* positions;  // [n_rows] absolute
  const float* q;             // [n_rows, n_heads, head_dim]
  const float* k;             // [n_rows, n_kv_heads, head_dim]
  const float* v;             // [n_rows, n_kv_heads, head_dim]
  float* out;                 // [n_rows, n_heads, head_dim]
};

class Attention {
 public:
  virtual ~Attention() = default;
  // Keeps k and v as the rows' own, and attends causally to all that came before and themselves,
  // or to what the layer's window (ModelConfig::windows) shows of it. Which RoPE: LayerRopes.
  // The rows are a step's, in its order: whose they are, the implementation knows.
  virtual void attend(const AttentionCall& call) = 0;
};

// What one pass computes: rows of one stream or of several.
struct StepCall {
  std::span<const uint32_t> tokens;  // [n_rows], 1 to Decoder::kRowsMax
  const uint32_t* positions;         // [n_rows] absolute
  std::span<const uint32_t> wanted;  // rows whose logits are asked for, rising
  float* logits;                     // [wanted, n_vocab]
};

class Decoder {
 public:
  static constexpr uint32_t kRowsMax = 64;  // rows per step: bounds the private memory

  // image, kernels and team must outlive the decoder.
  Decoder(const ModelImage& image, const Kernels& kernels, ThreadTeam& team);
  ~Decoder();

  // Every weight is read once for all rows. No allocation.
  void step(const StepCall& call, Attention& attention);
  // For consecutive tokens at `position`, `position`+1, … of one stream. logits:
  // [n_logits, n_vocab] of the last n_logits rows (0 = none).
  void step(std::span<const uint32_t> tokens, uint32_t position, Attention& attention,
            uint32_t n_logits, float* logits);

 private:
  struct Buffers;
  std::unique_ptr<Buffers> buffers_;
};

}  // namespace polykv
