// A GGUF file's vocabulary made into the image's tokenizer tables (writer only: these own their
// memory).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/gguf.h"
#include "model/image.h"

namespace polykv {

struct VocabTables {
  std::vector<uint32_t> text_offsets;
  std::string texts;
  std::vector<uint8_t> kinds;
  std::vector<uint32_t> text_slots, merge_slots, merges;
  uint32_t bos, eos;
  TokenizerTables view() const;
};

// bad_model_file or unsupported_model. Byte-level tokens are decoded to their bytes, special ones
// keep their literal name.
Result<VocabTables> read_vocab(const GgufFile& file);

}  // namespace polykv
