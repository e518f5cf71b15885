// The families of models that this build runs. To add one: a file family_<name>.cpp and a row of
// the table in family.cpp (CONTRIBUTING.md has a worked example).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"
#include "model/parameters.h"

namespace polykv {

struct Family {
  std::string_view gguf_name;  // general.architecture of a GGUF file
  std::string_view hub_name;   // model_type of a config.json
  // Completes what every family has (sizes, RoPE, epsilon) by what this one has besides, and
  // refuses by name what of it this build does not run.
  Status (*complete)(const Parameters& file, ModelConfig& config);
};

// nullptr: not supported.
const Family* find_family(const Parameters& file);
std::string family_names();  // for messages

// The families.
Status complete_llama(const Parameters& file, ModelConfig& config);
Status complete_mistral(const Parameters& file, ModelConfig& config);
Status complete_qwen2(const Parameters& file, ModelConfig& config);
Status complete_qwen3(const Parameters& file, ModelConfig& config);
Status complete_gemma3(const Parameters& file, ModelConfig& config);

// For families: refusals of what some members of theirs have. "" or a missing key is fine.
Status refuse_experts(const Parameters& file);
// A window shorter than the model's positions, or layers that are said to have one.
Status refuse_window(const Parameters& file, const ModelConfig& config);
// An activation of the feed-forward block other than SiLU.
Status require_silu(const Parameters& file);
// Fills config.windows by the file's window (none: nothing) and by which layers have it: as listed,
// or if nothing is listed all but the last of every `period` (0: all). Another pattern is refused.
Status read_windows(const Parameters& file, ModelConfig& config, uint32_t period);
// The same with the layers given; said: by what of the file, for messages.
Status set_windows(const Parameters& file, ModelConfig& config, const std::vector<bool>& layers,
                   const std::string& said);
// As `refuse` of other files: unsupported_model with the place.
std::unexpected<Error> unsupported(const Parameters& file, const std::string& what,
                                   std::string value);

}  // namespace polykv
