// A model file's vocabulary made into the image's tokenizer tables (writer only: these own their
// memory).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/gguf.h"
#include "model/image.h"

namespace polykv {

// A token longer than this is no token of a tokenizer: time to read and to encode grows with it.
inline constexpr size_t kTokenBytesMax = 1024;

// What a file says of its tokenizer, whatever its format. The texts are views into the file.
struct FileVocab {
  struct MergeText {
    std::string_view left, right;
  };
  std::string path;  // for messages
  PreTokenizer pre_tokenizer = PreTokenizer::smollm;
  uint32_t flags = 0;
  std::vector<std::string_view> tokens;  // as in the file: byte-level alphabet, U+2581, <0x0A>
  std::vector<uint8_t> kinds;            // [tokens]
  std::vector<MergeText> merges;         // lowest rank first
  uint32_t bos = 0xffffffff, eos = 0xffffffff;
  std::vector<uint32_t> ends;  // that end an answer, beside eos
};

struct VocabTables {
  std::vector<uint32_t> text_offsets;
  std::string texts;
  std::vector<uint8_t> kinds;
  std::vector<uint32_t> text_slots, merge_slots, merges;
  uint32_t bos, eos, flags;
  PreTokenizer pre_tokenizer;
  std::vector<uint32_t> ends;
  TokenizerTables view() const;
};

// bad_model_file with what is wrong. Tokens become their bytes, special ones keep their literal
// name.
Result<VocabTables> build_vocab(const FileVocab& vocab);

// A GGUF file's: tokenizer.ggml.*; unsupported_model names a kind that this build does not know.
Result<FileVocab> read_gguf_vocab(const GgufFile& file);

}  // namespace polykv
