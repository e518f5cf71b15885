// The names that model files use for pre-tokenizers.
#include "model/pre_tokenizer.h"

namespace polykv {
namespace {

constexpr PreTokenizerName kNames[] = {
    {"smollm", PreTokenizer::smollm}, {"gpt-2", PreTokenizer::gpt2},
    {"phi-2", PreTokenizer::gpt2},    {"llama-bpe", PreTokenizer::llama3},
    {"llama3", PreTokenizer::llama3}, {"llama-v3", PreTokenizer::llama3},
    {"qwen2", PreTokenizer::qwen2},   {"deepseek-r1-qwen", PreTokenizer::qwen2},
};

}  // namespace

std::optional<PreTokenizer> find_pre_tokenizer(std::string_view name) {
  for (const PreTokenizerName& known : kNames) {
    if (known.name == name) return known.kind;
  }
  return std::nullopt;
}

std::string_view pre_tokenizer_names() { return "smollm, gpt-2, llama-bpe and qwen2"; }

}  // namespace polykv
