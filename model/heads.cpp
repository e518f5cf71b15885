// Biases first, then the norm of each head, then the queries' factor.
#include "model/heads.h"

#include "model/kernels.h"

namespace polykv {
namespace {

struct Projection {
  float* x;  // [n, n_heads, head_dim]
  uint32_t n, n_heads, head_dim;
  const float *bias, *norm;
  float factor = 1;
};

void finish(const Projection& p, float eps) {
  const size_t width = size_t{p.n_heads} * p.head_dim;
  if (p.x == nullptr) return;
  for (uint32_t m = 0; m < p.n && p.bias != nullptr; ++m) {
    for (size_t i = 0; i < width; ++i) p.x[m * width + i] += p.bias[i];
  }
  for (uint32_t head = 0; head < p.n * p.n_heads && p.norm != nullptr; ++head) {
    float* x = p.x + size_t{head} * p.head_dim;
    rms_norm(x, p.norm, p.head_dim, eps, x);
  }
  for (size_t i = 0; i < p.n * width && p.factor != 1; ++i) p.x[i] *= p.factor;
}

}  // namespace

void finish_heads(const ModelConfig& c, const LayerWeights& layer, const HeadRows& rows) {
  finish({rows.q, rows.n, c.n_heads, c.head_dim, layer.q_bias, layer.q_norm, c.query_factor},
         c.rms_eps);
  finish({rows.k, rows.n, c.n_kv_heads, c.head_dim, layer.k_bias, layer.k_norm}, c.rms_eps);
  finish({rows.v, rows.n, c.n_kv_heads, c.head_dim, layer.v_bias, nullptr}, c.rms_eps);
}

}  // namespace polykv
