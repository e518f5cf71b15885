// The model image: everything that an agent needs of a model, in one sealed memfd. Layout:
// docs/format.md.
//
//   model file ─► pack_image (writer, once) ─► sealed memfd ─► ModelImage::map (every process,
//   read-only)
//
// Holds config, weights (w4, w8, w16, f32), tokenizer tables (flat, searched in place) and the chat
// format.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/checksum.h"
#include "ipc/memory.h"
#include "model/config.h"
#include "model/pre_tokenizer.h"
#include "model/sampler.h"

namespace polykv {

enum class WeightType : uint32_t {  // stored: never renumber
  f32 = 1,
  f16 = 2,
  bf16 = 3,
  w4 = 4,  // w = d*q + m; per block of 32 columns of a row f16 {d, m}, q 4-bit
  w8 = 5,  // w = d*q (+ m); per block an f16 d (and m), q signed 8-bit
};

// A matrix in the image. y = W x. w4 and w8 interleave the rows of a group: model/weight_layout.h.
struct Weight {
  WeightType type = WeightType::f32;
  uint32_t n_rows = 0;                // outputs
  uint32_t n_cols = 0;                // inputs, a multiple of block for w4 and w8
  uint32_t block = 0;                 // columns per scale: 32 (w4), 16 or 32 (w8), 0 otherwise
  uint32_t has_min = 0;               // w8: scales are {d, m}; w4: always
  const std::byte* values = nullptr;  // rows; w4, w8: [groups of 16 rows, n_cols/block, codes]
  const uint16_t* scales = nullptr;   // f16 [groups, n_cols/block, 1 or 2, 16]
};

// Rows of one layer, names as in the literature. nullptr: the model's family has none.
struct LayerWeights {
  const float* attn_norm = nullptr;  // [d_model]
  Weight wq, wk, wv, wo;  // [n_heads*head_dim, d_model], [n_kv_heads*head_dim, d_model] x2,
                          // [d_model, n_heads*head_dim]
  const float *q_bias = nullptr, *k_bias = nullptr, *v_bias = nullptr;  // [rows of wq, wk, wv]
  const float *q_norm = nullptr, *k_norm = nullptr;                     // [head_dim]
  const float* attn_post_norm = nullptr;                                // [d_model]
  const float* ffn_norm = nullptr;                                      // [d_model]
  Weight w_gate, w_up, w_down;           // [d_ff, d_model] x2, [d_model, d_ff]
  const float* ffn_post_norm = nullptr;  // [d_model]
};

// Flat tokenizer tables, searched in place (model/tokenizer.h).
struct TokenizerTables {
  std::span<const uint32_t> text_offsets;  // [n_vocab + 1] into texts
  std::string_view texts;                  // token bytes (byte-level decoded), one after the other
  std::span<const uint8_t> kinds;  // [n_vocab] 1 = normal, 3 = special/control, 4 = user-defined
  std::span<const uint32_t> text_slots;   // open-addressing hash: token id + 1, 0 = empty
  std::span<const uint32_t> merge_slots;  // the same over (left, right) -> merge index + 1
  std::span<const uint32_t> merges;  // [n_merges, 3] left id, right id, result id; rank = index
  uint32_t bos = 0, eos = 0;         // 0xffffffff = none
  PreTokenizer pre_tokenizer = PreTokenizer::smollm;
  uint32_t flags = 0;              // model/pre_tokenizer.h
  std::span<const uint32_t> ends;  // tokens that end an answer, beside eos
};

class ModelImage {
 public:
  // Validates everything that later code relies on: bad_segment says what was found. verify_weights
  // also recomputes the fingerprint over all bytes (seconds for big models).
  static Result<ModelImage> map(UniqueFd fd, bool verify_weights);

  const ModelConfig& config() const;
  const Fingerprint& fingerprint() const;  // of weights, config, RoPE and tokenizer
  const Weight& embedding() const;         // [n_vocab, d_model]
  const Weight& head() const;              // [n_vocab, d_model]
  const float* output_norm() const;        // [d_model]
  const LayerWeights& layer(uint32_t index) const;
  const TokenizerTables& tokenizer() const;
  const SamplingOptions& sampling() const;  // of a request that says nothing; seed 0
  std::string_view chat_format() const;     // a name that ChatFormat::find knows
  std::string_view name() const;            // from the file, for people
  const SharedView& memory() const;

  ModelImage(ModelImage&&) noexcept;
  ModelImage& operator=(ModelImage&&) noexcept;
  ~ModelImage();

 private:
  struct State;
  explicit ModelImage(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Reads a model file and packs it. bad_model_file, unsupported_model (with the name of what is not
// supported), memory_limit. progress(done_bytes, all_bytes) may be empty. notices (may be null)
// receives sentences about what the image does not hold exactly as the file does. chat_format: the
// name of one, or "" for the one that the file's template has. Tensors are read where they are
// mapped: private memory holds no more than the vocabulary (docs/format.md says how much).
Result<UniqueFd> pack_image(const std::string& model_path, const MemoryRoom& room,
                            const std::function<void(uint64_t, uint64_t)>& progress = {},
                            std::vector<std::string>* notices = nullptr,
                            std::string_view chat_format = "", unsigned n_threads = 1);

}  // namespace polykv
