// A whole model file of a few kilobytes.
#pragma once

#include <string>
#include <vector>

#include "ipc/half.h"
#include "tests/model/gguf_writer.h"

namespace polykv::test {

// Deterministic data of the simpler tensor types, with sane scales.
inline std::string tensor_data(GgufType type, uint64_t n, uint32_t seed) {
  std::string out;
  uint32_t state = seed * 2654435761U + 1;
  const auto next = [&] { return state = state * 1664525U + 1013904223U, state >> 8; };
  const auto real = [&] { return static_cast<float>(next() % 2000) / 1000.0F - 1.0F; };
  const auto scale = [&] { return raw(float_to_half(real() * 0.125F)); };
  const auto codes = [&](int count) {
    for (int i = 0; i < count; ++i) out += static_cast<char>(next());
  };
  for (uint64_t i = 0; i < n; i += type == GgufType::f32 || type == GgufType::f16 ? 1 : 32) {
    if (type == GgufType::f32) out += raw(real());
    if (type == GgufType::f16) out += raw(float_to_half(real()));
    if (type == GgufType::q4_0) out += scale(), codes(16);
    if (type == GgufType::q4_1) out += scale(), out += scale(), codes(16);
    if (type == GgufType::q8_0) out += scale(), codes(32);
  }
  return out;
}

constexpr uint32_t kTinyWidth = 64;

inline void add_tensor(GgufWriter& file, const std::string& name, GgufType type,
                       const std::vector<uint64_t>& shape) {
  uint64_t n = 1;
  for (const uint64_t size : shape) n *= size;
  const auto seed = static_cast<uint32_t>(file.tensors.size() + 1);
  file.tensors.push_back({name, static_cast<uint32_t>(type), shape, tensor_data(type, n, seed)});
}

inline void add_tiny_vocabulary(GgufWriter& file) {
  const std::vector<std::string> tokens = {
      "<|endoftext|>", "<|im_start|>", "<|im_end|>", "a",    "b",       "c",        "d", "\u0120",
      "\u010a",        "ab",           "cd",         "abcd", "\u0120a", "\u0120ab", "x", "!"};
  std::vector<int32_t> kinds(tokens.size(), 1);
  kinds[0] = kinds[1] = kinds[2] = 3;
  file.texts("tokenizer.ggml.tokens", tokens);
  file.i32s("tokenizer.ggml.token_type", kinds);
  file.texts("tokenizer.ggml.merges", {"a b", "c d", "ab cd", "\u0120 a", "\u0120a b"});
  file.text("tokenizer.ggml.model", "gpt2");
  file.text("tokenizer.ggml.pre", "smollm");
  file.u32("tokenizer.ggml.bos_token_id", 1);
  file.u32("tokenizer.ggml.eos_token_id", 2);
  file.text("tokenizer.chat_template", "{{ '<|im_start|>' + text + '<|im_end|>' }}");
}

// One layer, width 64, one head, 16 tokens, tied head; the simpler tensor types (quants_test.cpp
// has the others).
inline GgufWriter tiny_model() {
  GgufWriter file;
  file.text("general.architecture", "llama");
  file.text("general.name", "tiny");
  file.u32("llama.block_count", 1);
  file.u32("llama.context_length", 128);
  file.u32("llama.embedding_length", kTinyWidth);
  file.u32("llama.feed_forward_length", 96);
  file.u32("llama.attention.head_count", 1);
  file.f32("llama.attention.layer_norm_rms_epsilon", 1e-5F);
  file.f32("llama.rope.freq_base", 10000);
  add_tiny_vocabulary(file);
  add_tensor(file, "token_embd.weight", GgufType::q8_0, {64, 16});
  add_tensor(file, "output_norm.weight", GgufType::f32, {64});
  add_tensor(file, "blk.0.attn_norm.weight", GgufType::f32, {64});
  add_tensor(file, "blk.0.ffn_norm.weight", GgufType::f16, {64});
  add_tensor(file, "blk.0.attn_q.weight", GgufType::q4_0, {64, 64});
  add_tensor(file, "blk.0.attn_k.weight", GgufType::q4_1, {64, 64});
  add_tensor(file, "blk.0.attn_v.weight", GgufType::f16, {64, 64});
  add_tensor(file, "blk.0.attn_output.weight", GgufType::f32, {64, 64});
  add_tensor(file, "blk.0.ffn_gate.weight", GgufType::q4_1, {64, 96});
  add_tensor(file, "blk.0.ffn_up.weight", GgufType::q4_0, {64, 96});
  add_tensor(file, "blk.0.ffn_down.weight", GgufType::q8_0, {96, 64});
  return file;
}

}  // namespace polykv::test
