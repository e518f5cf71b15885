// A model file's hyperparameters made into a ModelConfig; what this build cannot run is refused by
// name.
#pragma once

#include "model/image.h"
#include "model/parameters.h"

namespace polykv {

Result<ModelConfig> read_config(const Parameters& file);

// The name of the chat format that a template has: "chatml", or unsupported_model. `place` is for
// the message.
Result<std::string> find_chat_format(std::string_view chat_template, const std::string& place);

}  // namespace polykv
