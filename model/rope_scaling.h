// How a file scales RoPE, made into a configuration's fields.
#pragma once

#include "model/config.h"
#include "model/parameters.h"

namespace polykv {

// Fills config.rope_*; unsupported_model names a kind of scaling that this build does not know.
// REQUIRES: config's head_dim and rope_base.
Status read_rope_scaling(const Parameters& file, ModelConfig& config);

}  // namespace polykv
