// Tokens into the suffix, a pass of the decoder at a time.
#include "agents/stream.h"

#include <algorithm>

namespace polykv {

uint32_t reusable(const Suffix& suffix, std::span<const uint32_t> tokens, bool wants_logits) {
  const auto differs = std::ranges::mismatch(suffix.tokens(), tokens);
  const auto same = static_cast<uint32_t>(differs.in2 - tokens.begin());
  return wants_logits && same == tokens.size() ? same - 1 : same;
}

Stream::Stream(AgentModel& model, const Layout& layout, Suffix& suffix)
    : suffix_(suffix),
      attention_(model.image.config(), layout, model.attend, model.team),
      pass_(model) {}

Result<uint32_t> Stream::become(std::span<const uint32_t> tokens, uint32_t room, float* logits) {
  const uint32_t kept = reusable(suffix_, tokens, logits != nullptr);
  if (auto ready = suffix_.reserve(kept, room); !ready) return pass(ready);
  for (size_t at = kept; at < tokens.size(); at += Decoder::kRowsMax) {
    const size_t n = std::min<size_t>(Decoder::kRowsMax, tokens.size() - at);
    const bool last = logits != nullptr && at + n == tokens.size();
    pass_over(tokens.subspan(at, n), last ? 1 : 0, logits);
  }
  return kept;
}

void Stream::pass_over(std::span<const uint32_t> tokens, uint32_t n_logits, float* logits) {
  pass_.add(attention_, suffix_, tokens, n_logits);
  pass_.run(logits);
}

}  // namespace polykv
