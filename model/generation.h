// How a model's maker wants answers sampled: what a request gets that says nothing of it.
#pragma once

#include <string>
#include <vector>

#include "model/gguf.h"
#include "model/json.h"
#include "model/sampler.h"

namespace polykv {

struct FileGeneration {
  SamplingOptions sampling;          // greedy where the file says nothing
  std::vector<std::string> notices;  // what the file asks for and this build does not do
};

// generation_config.json of a Hugging Face checkpoint: sampled only if do_sample is true; what it
// leaves out is off. bad_model_file names a value that is none. `place`: the file, for messages.
Result<FileGeneration> hub_generation(const Json& config, const std::string& place);
// general.sampling.* of a GGUF file: sampled if it has any of temp, top_k, top_p, min_p.
Result<FileGeneration> gguf_generation(const GgufFile& file);

}  // namespace polykv
