// Both forward passes come here, row by row.
#include "model/residual.h"

#include <bit>
#include <cmath>

#include "model/kernels.h"

namespace polykv {
namespace {

// The models that scale were trained in bfloat16, and so was their factor.
float embedding_factor(const ModelConfig& config) {
  const auto bits = std::bit_cast<uint32_t>(std::sqrt(static_cast<float>(config.d_model)));
  return std::bit_cast<float>((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000);
}

}  // namespace

void embed_token(const ModelImage& image, uint32_t token, float* out) {
  const ModelConfig& config = image.config();
  dequantise_row(image.embedding(), token, out);
  if (!config.has(kScaledEmbedding)) return;
  const float factor = embedding_factor(config);
  for (uint32_t i = 0; i < config.d_model; ++i) out[i] *= factor;
}

void add_to_residual(const ModelConfig& config, const float* post_norm, float* y, float* x) {
  if (post_norm != nullptr) rms_norm(y, post_norm, config.d_model, config.rms_eps, y);
  for (uint32_t i = 0; i < config.d_model; ++i) x[i] += y[i];
}

}  // namespace polykv
