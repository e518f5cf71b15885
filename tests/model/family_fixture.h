// Tiny models of each family with the logits of an independent implementation
// (tests/scripts/make_family_fixture.py), and what "the same" means.
#pragma once

#include <string>
#include <vector>

#include "tests/model/raw_image.h"

namespace polykv::test {

struct FamilyFixture {
  FamilyFixture() = default;
  std::string path;                        // of the model
  std::vector<uint32_t> tokens;            // [n]
  std::vector<uint32_t> positions;         // those with logits
  std::vector<std::vector<float>> logits;  // [positions, n_vocab]

  explicit FamilyFixture(const std::string& name);
  static FamilyFixture hub(const std::string& name);      // a checkpoint's (make_hub_fixture.py)
  static FamilyFixture at(const std::string& json_path);  // the model's path stays empty
  // The largest difference. logits_of_all: [n, n_vocab].
  double error(const std::vector<float>& logits_of_all) const;
};

// The logits' standard deviation is about 1. Q8_0 weights and 16-bit activations give at most a
// thousandth; each feature must matter more than ten times as much.
inline constexpr double kFamilyTolerance = 2e-3;   // of decoding
inline constexpr double kPrefillTolerance = 1e-4;  // f32 throughout

// "yarn" is a Qwen3 with YaRN, past its original positions, and tensors of seven types, "kquants" a
// Llama of Q4_K, Q5_K and Q6_K; the others' matrices are Q8_0.
inline const char* const kFamilies[] = {"llama",  "mistral", "qwen2",  "qwen3",
                                        "gemma3", "yarn",    "kquants"};
inline const char* const kHubs[] = {"llama", "mistral", "qwen2", "qwen3", "gemma3"};

// A family's feature, and how an image forgets it.
struct Feature {
  const char* family;
  const char* name;
  void (*switch_off)(RawImage&);
};
std::vector<Feature> family_features();
void change_config(RawImage& raw, void (*change)(ModelConfig&));

ModelImage open_image(const RawImage& raw);

}  // namespace polykv::test
