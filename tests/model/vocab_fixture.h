// The vocabularies of tests/fixtures/vocab_*.json as entries of a GGUF file.
#pragma once

#include "tests/model/gguf_writer.h"

namespace polykv::test {

// vocab: a fixture as JSON, of whichever library.
template <class Json>
void put_vocab(GgufWriter& file, const Json& vocab) {
  file.text("tokenizer.ggml.model", vocab["model"]);
  if (vocab.contains("pre")) file.text("tokenizer.ggml.pre", vocab["pre"]);
  file.texts("tokenizer.ggml.tokens", vocab["tokens"]);
  file.i32s("tokenizer.ggml.token_type", vocab["token_type"]);
  if (vocab.contains("merges")) file.texts("tokenizer.ggml.merges", vocab["merges"]);
  if (vocab.contains("scores")) file.f32s("tokenizer.ggml.scores", vocab["scores"]);
}

}  // namespace polykv::test
