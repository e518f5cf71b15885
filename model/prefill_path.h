// Which ways of computing a prefill takes here: a matter of what is asked for, of the kernels that
// are allowed, of the model's weights and of the processor.
#pragma once

#include <string>

#include "model/prefill.h"
#include "model/prefill_attend.h"
#include "model/prefill_tiles_check.h"

namespace polykv {

// Whether a prefill with these kernels for packed weights could take tiles of bfloat16 here.
bool can_take_tiles(const Kernels* kernels);
// Whether they do not reproduce known vectors where they could be taken: then PrefillJob::tiles has
// to be false, and whoever finds that counts it. To be asked once, when a writer starts.
bool tiles_failed(const Kernels* kernels);
bool tiles_failed(const Kernels* kernels, const TileKernels& tiles);  // x86-64 only

struct PrefillPath {
  AttentionPrecision attention;
  bool packed;  // products with packed weights by our own kernels, on them as they lie
  bool tiles;   // these on tiles of bfloat16, else exact integers
  bool split;   // other products on sums of two bfloat16, else in f32
};
PrefillPath prefill_path(const PrefillJob& job);

// In words, for logs and `polykv status`: "f32", or the precision that was asked for and what it
// came to, as "fast: products tiles, attention tiles" (docs/protocol.md lists the words).
std::string describe_path(const ModelImage& image, const PrefillJob& job);

}  // namespace polykv
