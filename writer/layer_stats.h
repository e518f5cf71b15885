// What a layer's K and V are like, and what encoding them costs: rows of `polykv eval --per-layer`.
#pragma once

#include "ipc/message.h"
#include "ipc/segment.h"
#include "model/prefill.h"

namespace polykv {

inline constexpr uint32_t kLayersTold = 128;  // as many fit the packet of a "segment"

// A "layer_stats" (docs/protocol.md) of the layer that was put last. Of the rows that its planes
// hold, those of a context's first kSinkTokens tokens are left out: they are like no others.
Message layer_stats(const SegmentBuilder& builder, const LayerKv& kv, const QuerySample& queries);

}  // namespace polykv
