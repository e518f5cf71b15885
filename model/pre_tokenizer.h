// The kinds of tokenizers that an image may hold, and what else it says about encoding.
#pragma once

#include <cstdint>
#include <string_view>

namespace polykv {

// How text is cut into the pieces within which tokens merge. Stored: never renumber.
enum class PreTokenizer : uint32_t {
  smollm = 1,  // digits one by one, then GPT-2's pattern
  gpt2 = 2,
  llama3 = 3,  // up to three digits together
  qwen2 = 4,
  sentencepiece = 5,  // a space belongs to the word behind it; bytes stand for unknown characters
  tekken = 6,         // words end where a small letter is followed by a capital
};
inline constexpr uint32_t kPreTokenizerLast = 6;

// Bits of TokenizerTables::flags. Stored: never renumber.
inline constexpr uint32_t kAddBos = 1;           // a context begins with the token bos
inline constexpr uint32_t kWholeWords = 2;       // a piece that is a token is that token, unmerged
inline constexpr uint32_t kSpacePrefix = 4;      // a space is put before each run of plain text
inline constexpr uint32_t kSpaceFirst = 8;       // … before text that opens the context only
inline constexpr uint32_t kComposed = 16;        // texts are brought into Unicode's form NFC first
inline constexpr uint32_t kTokenizerFlags = 31;  // all of them

struct PreTokenizerName {
  std::string_view name;  // tokenizer.ggml.pre of a GGUF file
  PreTokenizer kind;
  uint32_t flags;  // of its models; kAddBos unless the file says otherwise
};
// nullptr: this build does not know it.
const PreTokenizerName* find_pre_tokenizer(std::string_view name);
std::string_view pre_tokenizer_names();  // for messages: "smollm, gpt-2, …"

}  // namespace polykv
