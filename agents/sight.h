// What layers see of a layout: all of it, or, behind a window, its end. A model has layers of one
// kind or of both.
#pragma once

#include <cstdint>
#include <vector>

#include "ipc/pool.h"
#include "model/config.h"

namespace polykv {

// Rows of one span that are attended to in one go.
struct Part {
  const Span* span;
  uint32_t first_token;  // of the span's segment: row 0 of the layers' planes
  uint32_t begin, end;   // rows of these planes
  uint32_t shift;        // index into Sight::shifts
};

struct Sight {
  uint32_t window = 0;             // tokens that a query sees, itself included; 0: all
  uint32_t rope = 0;               // index into LayerRopes
  std::vector<int64_t> shifts{0};  // distinct position offsets; the first, 0, is the suffix's
  std::vector<Part> parts{};       // in order of position

  // The first row of a part that a query at that position sees, at most part.end.
  uint32_t first_seen(const Part& part, uint32_t position) const;
};

// Layers without a window first. Everything that some private token may see is in it.
std::vector<Sight> sights_of(const ModelConfig& config, const Layout& layout);

// The first row at or after `row` with which a tile of coded rows begins; the sinks begin one, too.
uint32_t next_tile(const PlaneView& k, const PlaneView& v, uint32_t row);

}  // namespace polykv
