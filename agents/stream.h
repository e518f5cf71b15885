// One stream of private tokens after a layout, by itself: model, shared spans and suffix put
// together.
#pragma once

#include <span>

#include "agents/pass.h"

namespace polykv {

class Stream {
 public:
  // All three must outlive the stream. The suffix must be empty or of this very layout.
  Stream(AgentModel& model, const Layout& layout, Suffix& suffix);

  // Makes the suffix hold `tokens`, with room for `room` in all. What it holds of them already is
  // not computed again; that changes no bit of any result. logits: [n_vocab] after the last token,
  // which is then always computed; nullptr = none. Returns how many were reused. REQUIRES: they fit
  // the model's positions; room >= tokens.size().
  Result<uint32_t> become(std::span<const uint32_t> tokens, uint32_t room, float* logits);
  // One more token. No allocation.
  void step(uint32_t token, float* logits) { pass_over(std::span(&token, 1), 1, logits); }
  // Up to Decoder::kRowsMax more tokens. logits: [n_logits, n_vocab] of the last rows.
  void pass_over(std::span<const uint32_t> tokens, uint32_t n_logits, float* logits);

 private:
  Suffix& suffix_;
  PoolAttention attention_;
  Pass pass_;
};

// How many of `tokens` a suffix spares: those that it begins with, all but the last if that one's
// logits are wanted.
uint32_t reusable(const Suffix& suffix, std::span<const uint32_t> tokens, bool wants_logits);

}  // namespace polykv
