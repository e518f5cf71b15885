// tokenizer.json of a Hugging Face checkpoint as a vocabulary.
#pragma once

#include <deque>

#include "model/image_vocab.h"
#include "model/json.h"

namespace polykv {

struct HubVocab {
  FileVocab vocab;                  // views the JSON and the names
  std::deque<std::string> padding;  // names of tokens that only the embedding has
};

// unsupported_model names what of the tokenizer this build does not do. n_vocab: rows of the
// embedding; ids that have no token become special ones. The JSON must outlive the result.
Result<HubVocab> read_hub_vocab(const Json& tokenizer, uint32_t n_vocab, const std::string& place);

}  // namespace polykv
