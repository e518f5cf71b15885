// The kinds of tokenizers that an image may hold, and what else it says about encoding.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace polykv {

// How text is cut into the pieces within which tokens merge. Stored: never renumber.
enum class PreTokenizer : uint32_t {
  smollm = 1,  // digits one by one, then GPT-2's pattern
  gpt2 = 2,
  llama3 = 3,  // up to three digits together
  qwen2 = 4,
  sentencepiece = 5,  // a space belongs to the word behind it; bytes stand for unknown characters
};
inline constexpr uint32_t kPreTokenizerLast = 5;

// Bits of TokenizerTables::flags. Stored: never renumber.
inline constexpr uint32_t kAddBos = 1;           // a context begins with the token bos
inline constexpr uint32_t kWholeWords = 2;       // a piece that is a token is that token, unmerged
inline constexpr uint32_t kSpacePrefix = 4;      // a space is put before each run of plain text
inline constexpr uint32_t kSpaceFirst = 8;       // … before text that opens the context only
inline constexpr uint32_t kTokenizerFlags = 15;  // all of them

struct PreTokenizerName {
  std::string_view name;  // tokenizer.ggml.pre of a GGUF file
  PreTokenizer kind;
};
// nullopt: this build does not know it.
std::optional<PreTokenizer> find_pre_tokenizer(std::string_view name);
std::string_view pre_tokenizer_names();  // for messages: "smollm, gpt-2, …"

}  // namespace polykv
