// A model file's hyperparameters made into a ModelConfig; what this build cannot run is refused by
// name.
#pragma once

#include "model/image.h"
#include "model/parameters.h"

namespace polykv {

Result<ModelConfig> read_config(const Parameters& file);

}  // namespace polykv
