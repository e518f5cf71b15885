// What goes into the residual stream: token embeddings, in some families scaled, and what a block
// adds, in some families normed once more.
#pragma once

#include "model/image.h"

namespace polykv {

// out: [d_model].
void embed_token(const ModelImage& image, uint32_t token, float* out);

// x += y, or where there is a post_norm the norm of y, which is then in y. All: [d_model].
void add_to_residual(const ModelConfig& config, const float* post_norm, float* y, float* x);

}  // namespace polykv
