// A GGUF file's hyperparameters made into a ModelConfig; what this build cannot run is refused by
// name.
#pragma once

#include "model/gguf.h"
#include "model/image.h"

namespace polykv {

Result<ModelConfig> read_config(const GgufFile& file);

// The name of the file's chat format: "chatml", or unsupported_model.
Result<std::string> read_chat_format(const GgufFile& file);

}  // namespace polykv
