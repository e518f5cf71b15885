// From spans to parts.
#include "agents/sight.h"

#include <algorithm>
#include <bit>

#include "model/rope.h"
#include "reader/attend.h"

namespace polykv {
namespace {

// Rows of a span that one thread attends to at a time. Each part costs two rotations a query, but
// two threads should find work in the same head. It depends on the span alone: it is part of the
// order in which sums are taken.
uint32_t part_tokens(uint32_t n_tokens) {
  constexpr uint32_t kMost = 4 * kSplitTokens;
  return std::clamp(std::bit_ceil(n_tokens / 2), kSplitTokens, kMost);
}

uint32_t shift_of(Sight& sight, int64_t position_offset) {
  const auto found = std::ranges::find(sight.shifts, position_offset);
  const auto index = static_cast<uint32_t>(found - sight.shifts.begin());
  if (found == sight.shifts.end()) sight.shifts.push_back(position_offset);
  return index;
}

// Of the span's tokens those that the first private token sees: later ones see fewer.
void add_parts(Sight& sight, const Span& span, uint32_t first_token, uint32_t n_tokens) {
  Part part{&span, first_token, std::max(span.token_begin, first_token) - first_token,
            span.token_end - first_token, 0};
  part.begin = std::max(part.begin, sight.first_seen(part, n_tokens));
  if (part.begin >= part.end) return;
  part.shift = shift_of(sight, span.position_offset);
  const uint32_t end = part.end, step = part_tokens(end - part.begin);
  for (; part.begin < end; part.begin = part.end) {
    part.end = part.begin + std::min(end - part.begin, step);
    sight.parts.push_back(part);
  }
}

// Of the layers that are like this one.
Sight sight_of(const ModelConfig& config, const Layout& layout, uint32_t layer) {
  Sight sight{.window = config.windows.of(layer), .rope = LayerRopes(config).index_of(layer)};
  for (const Span& span : layout.spans) {
    add_parts(sight, span, span.segment.first_token(layer), layout.n_tokens);
  }
  return sight;
}

}  // namespace

uint32_t Sight::first_seen(const Part& part, uint32_t position) const {
  const int64_t first_position = part.span->position_offset + part.first_token;
  const int64_t oldest = int64_t{position} - window + 1;
  if (window == 0 || oldest <= first_position + part.begin) return part.begin;
  return static_cast<uint32_t>(std::min<int64_t>(oldest - first_position, part.end));
}

std::vector<Sight> sights_of(const ModelConfig& config, const Layout& layout) {
  std::vector<Sight> sights;
  for (const bool windowed : {false, true}) {
    for (uint32_t layer = 0; layer < config.n_layers; ++layer) {
      if ((config.windows.of(layer) != 0) != windowed) continue;
      sights.push_back(sight_of(config, layout, layer));
      break;
    }
  }
  return sights;
}

uint32_t next_tile(const PlaneView& k, const PlaneView& v, uint32_t row) {
  const uint32_t sinks = is_rotated(k.shape.codec) ? k.shape.n_sinks : v.shape.n_sinks;
  if (row <= sinks) return row == 0 ? 0 : sinks;
  return sinks + (row - sinks + kTileRows - 1) / kTileRows * kTileRows;
}

}  // namespace polykv
