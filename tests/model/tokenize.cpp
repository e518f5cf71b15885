// Tokenises the lines of a file of JSON strings by the vocabulary of a GGUF file or tokenizer.json:
//   tokenize VOCABULARY < TEXTS.jsonl > TOKENS.jsonl
// A line of the answer is the list of tokens and the text that they decode to
// (tests/scripts/check_tokenizers.py).
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "model/hub_vocab.h"
#include "model/image_vocab.h"
#include "model/tokenizer.h"

namespace polykv {
namespace {

int refuse(const Error& error) {
  std::cerr << "tokenize: " << error.message << '\n';
  return 1;
}

Result<VocabTables> read_gguf(const char* path) {
  auto file = GgufFile::open(path);
  if (!file) return pass(file);
  auto said = read_gguf_vocab(*file);
  if (!said) return pass(said);
  return build_vocab(*said);
}

// tokenizer.json
Result<VocabTables> read_json(const char* path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  auto json = Json::parse(text, path);
  if (!json) return pass(json);
  double last = 0;
  const Json* model = json->find("model");
  const Json* words = model == nullptr ? nullptr : model->find("vocab");
  for (const auto& field : words == nullptr ? Json::Fields() : *words->fields()) {
    last = std::max(last, *field.item.number());
  }
  const Json* added = json->find("added_tokens");
  for (const Json& token : added == nullptr ? Json::List() : *added->list()) {
    last = std::max(last, *token.find("id")->number());
  }
  auto said = read_hub_vocab(*json, static_cast<uint32_t>(last) + 1, path);
  if (!said) return pass(said);
  return build_vocab(said->vocab);
}

int run(const char* path) {
  auto vocab = std::string_view(path).ends_with(".json") ? read_json(path) : read_gguf(path);
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
  std::cerr << "usage: tokenize VOCABULARY.gguf|tokenizer.json < TEXTS.jsonl\n";
  return 2;
}
