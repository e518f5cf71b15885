// Tokenises the lines of a file of JSON strings by a GGUF file's vocabulary:
//   tokenize VOCABULARY.gguf < TEXTS.jsonl > TOKENS.jsonl
// A line of the answer is the list of tokens and the text that they decode to
// (tests/scripts/check_tokenizers.py).
#include <iostream>
#include <nlohmann/json.hpp>

#include "model/image_vocab.h"
#include "model/tokenizer.h"

namespace polykv {
namespace {

int refuse(const Error& error) {
  std::cerr << "tokenize: " << error.message << '\n';
  return 1;
}

int run(const char* path) {
  auto file = GgufFile::open(path);
  if (!file) return refuse(file.error());
  auto said = read_gguf_vocab(*file);
  if (!said) return refuse(said.error());
  auto vocab = build_vocab(*said);
  if (!vocab) return refuse(vocab.error());
  const TokenizerTables tables = vocab->view();
  auto tokenizer = Tokenizer::create(tables);
  if (!tokenizer) return refuse(tokenizer.error());
  for (std::string line; std::getline(std::cin, line);) {
    auto tokens = tokenizer->encode(nlohmann::json::parse(line).get<std::string>());
    if (!tokens) return refuse(tokens.error());
    const std::string text = tokenizer->decode(*tokens);
    std::cout << nlohmann::json{*tokens, text}.dump(-1, ' ', true,
                                                    nlohmann::json::error_handler_t::replace)
              << '\n';
  }
  return 0;
}

}  // namespace
}  // namespace polykv

int main(int argc, char** argv) {
  if (argc == 2) return polykv::run(argv[1]);
  std::cerr << "usage: tokenize VOCABULARY.gguf < TEXTS.jsonl\n";
  return 2;
}
