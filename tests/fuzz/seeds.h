// What the fuzz targets begin with, made from what the tests have (tests/fuzz/seeds.cpp).
#pragma once

#include <map>
#include <string>
#include <vector>

namespace polykv::fuzz {

struct Seeds {
  std::map<std::string, std::string> inputs;  // by file name
  std::vector<std::string> words;             // of the target's dictionary
};

// By the target's name.
using AllSeeds = std::map<std::string, Seeds>;

void add_model_seeds(AllSeeds& all);    // gguf, vocab, tokenizer, image
void add_hub_seeds(AllSeeds& all);      // hub, safetensors, json
void add_runtime_seeds(AllSeeds& all);  // all others

// The input, and copies of it in which each 32-bit word of `bytes` bytes from `begin` on is all
// ones, or 1: the field's every limit is met.
void add_spoilt_words(Seeds& seeds, const std::string& name, const std::string& input, size_t begin,
                      size_t bytes);
// Copies that end at every `step` bytes.
void add_cut_short(Seeds& seeds, const std::string& name, const std::string& input, size_t step);

std::string read_fixture(const std::string& name);

}  // namespace polykv::fuzz
