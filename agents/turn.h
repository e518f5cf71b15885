// A finished turn as a segment: what an answer left in the suffix becomes the pool's next part,
// without a prefill.
#pragma once

#include <string>
#include <vector>

#include "agents/stream.h"

namespace polykv {

// The request that the suffix was computed for. Its prompt is the suffix's beginning.
struct Turn {
  std::string request;
  uint32_t prompt_tokens = 0;
  std::vector<uint32_t> answer;  // as sampled
  std::string text;              // as delivered: without a stop string
};

struct TurnOptions {
  CodecSpec codec;
  MemoryRoom room;
  std::string holders;  // who holds the memory now, for the refusal's sentence
};

struct TurnSegment {
  UniqueFd fd;  // sealed
  uint32_t n_tokens = 0;
};

// Computes what is missing (the last sampled token, the end of the message), so that the turn reads
// as ChatFormat::document writes it, and encodes K and V after the layout. The text is the one that
// was delivered: tokens past a stop string are dropped. context_too_long, memory_limit.
Result<TurnSegment> encode_turn(AgentModel& model, const Layout& layout, Suffix& suffix,
                                const Turn& turn, const TurnOptions& options);

// Chain hash of a layout's tokens: what a segment that follows it says that it follows.
Fingerprint prefix_of(const Layout& layout);

}  // namespace polykv
