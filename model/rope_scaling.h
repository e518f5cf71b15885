// How a file scales RoPE, made into a configuration's fields.
#pragma once

#include "model/config.h"
#include "model/parameters.h"

namespace polykv {

// Fills config.rope_*, and makes n_positions what a stretched context holds. unsupported_model
// names a kind of scaling that this build does not know. REQUIRES: config's head_dim, n_positions
// and rope_base.
Status read_rope_scaling(const Parameters& file, ModelConfig& config);

}  // namespace polykv
