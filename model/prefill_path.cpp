// The choice, and its name.
#include "model/prefill_path.h"

#include <algorithm>
#include <vector>

#include "model/prefill_packed.h"
#include "model/prefill_split.h"
#include "model/prefill_tiles_attend.h"
#include "model/weight_layout.h"

namespace polykv {
namespace {

// Our own products and attention in bfloat16: also a matter of which kernels are allowed.
bool takes_tiles(const PrefillJob& job) {
  return job.precision == PrefillPrecision::fast && job.tiles && can_take_tiles(job.kernels);
}

AttentionPrecision attention_of(const PrefillJob& job) {
  if (job.precision == PrefillPrecision::f32 || !can_split()) return AttentionPrecision::f32;
  if (job.precision == PrefillPrecision::best) return AttentionPrecision::halves;
  return takes_tiles(job) ? AttentionPrecision::tiles : AttentionPrecision::bfloat16;
}

std::string_view name_of(AttentionPrecision attention, uint32_t head_dim) {
  constexpr std::string_view kNames[] = {"f32", "halves", "bfloat16", "tiles"};
  const bool other = attention == AttentionPrecision::tiles && !fits_tiles(head_dim);
  return kNames[static_cast<int>(other ? AttentionPrecision::bfloat16 : attention)];
}

// Whether each of a layer's products is with packed weights, as the forward pass sees it.
std::vector<bool> packed_products(const LayerWeights& layer) {
  return {is_packed(layer.wq), is_packed(layer.wk), is_packed(layer.wv), is_packed(layer.wo),
          PackedLayers::takes_feed_forward(layer)};
}

// "tiles", or "tiles and halves" where only some weights are packed.
std::string products_of(const ModelImage& image, const PrefillPath& path) {
  bool some_packed = false, some_other = false;
  for (uint32_t i = 0; i < image.config().n_layers; ++i) {
    for (const bool packed : packed_products(image.layer(i))) {
      (packed && path.packed ? some_packed : some_other) = true;
    }
  }
  const std::string packed = path.tiles ? "tiles" : "integers",
                    other = path.split ? "halves" : "f32";
  if (some_packed && some_other) return cat(packed, " and ", other);
  return some_packed ? packed : other;
}

}  // namespace

bool can_take_tiles(const Kernels* kernels) {
  return kernels != nullptr && kernels->name == "amx" && can_split();
}

#ifdef __x86_64__
bool tiles_failed(const Kernels* kernels, const TileKernels& tiles) {
  return can_take_tiles(kernels) && !keeps_to_the_specification(tiles);
}
bool tiles_failed(const Kernels* kernels) { return tiles_failed(kernels, tile_kernels()); }
#else
bool tiles_failed(const Kernels*) { return false; }
#endif

PrefillPath prefill_path(const PrefillJob& job) {
  const bool may_round = job.precision != PrefillPrecision::f32;
  return {.attention = attention_of(job),
          .packed = may_round && job.kernels != nullptr,
          .tiles = takes_tiles(job),
          .split = may_round && can_split()};
}

std::string describe_path(const ModelImage& image, const PrefillJob& job) {
  const PrefillPath path = prefill_path(job);
  if (job.precision == PrefillPrecision::f32) return "f32";
  return cat(name_of(job.precision), ": products ", products_of(image, path), ", attention ",
             name_of(path.attention, image.config().head_dim));
}

}  // namespace polykv
