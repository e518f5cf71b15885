// The names that model files use for pre-tokenizers.
#include "model/pre_tokenizer.h"

#include <algorithm>

namespace polykv {
namespace {

constexpr PreTokenizerName kNames[] = {
    {"smollm", PreTokenizer::smollm, 0},
    {"gpt-2", PreTokenizer::gpt2, 0},
    {"phi-2", PreTokenizer::gpt2, 0},
    {"llama-bpe", PreTokenizer::llama3, kWholeWords | kAddBos},
    {"llama3", PreTokenizer::llama3, kWholeWords | kAddBos},
    {"llama-v3", PreTokenizer::llama3, kWholeWords | kAddBos},
    {"qwen2", PreTokenizer::qwen2, kComposed},
    {"deepseek-r1-qwen", PreTokenizer::qwen2, 0},
    {"tekken", PreTokenizer::tekken, kWholeWords | kAddBos},
};

}  // namespace

const PreTokenizerName* find_pre_tokenizer(std::string_view name) {
  const auto* found = std::ranges::find(kNames, name, &PreTokenizerName::name);
  return found == std::end(kNames) ? nullptr : found;
}

std::string_view pre_tokenizer_names() { return "smollm, gpt-2, llama-bpe, qwen2 and tekken"; }

}  // namespace polykv
