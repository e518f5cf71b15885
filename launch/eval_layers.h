// `polykv eval --per-layer`: what K and V of each layer are like, and what each codec does to them.
//
// Of the first window, as the writer saw them: rows behind the context's first tokens, which are
// kept exact. The JSON rows hold the same as "layers" (docs/protocol.md, layer_stats).
#pragma once

#include <ostream>
#include <vector>

#include "launch/eval.h"

namespace polykv {

// One table of K and V, which are the same for all codecs, then one of each codec's errors.
void print_layers(const std::vector<EvalRow>& rows, std::ostream& out);

}  // namespace polykv
