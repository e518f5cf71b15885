// Tokens into the suffix, a pass of the decoder at a time.
#include "agents/stream.h"

#include <algorithm>

namespace polykv {

Stream::Stream(AgentModel& model, const Layout& layout, Suffix& suffix)
    : model_(model),
      layout_(layout),
      suffix_(suffix),
      attention_(model.image.config(), layout, suffix, model.attend, model.team) {}

Result<uint32_t> Stream::become(std::span<const uint32_t> tokens, uint32_t room, float* logits,
                                const GoOn& go_on) {
  const auto differs = std::ranges::mismatch(suffix_.tokens(), tokens);
  auto kept = static_cast<size_t>(differs.in2 - tokens.begin());
  if (logits != nullptr && kept == tokens.size()) --kept;
  if (auto ready = suffix_.reserve(static_cast<uint32_t>(kept), room); !ready) return pass(ready);
  for (size_t at = kept; at < tokens.size(); at += Decoder::kRowsMax) {
    if (go_on && !go_on()) return fail(ErrorCode::cancelled, "cancelled before the first token");
    const size_t n = std::min<size_t>(Decoder::kRowsMax, tokens.size() - at);
    const bool last = logits != nullptr && at + n == tokens.size();
    pass_over(tokens.subspan(at, n), last ? 1 : 0, logits);
  }
  return static_cast<uint32_t>(kept);
}

void Stream::pass_over(std::span<const uint32_t> tokens, uint32_t n_logits, float* logits) {
  const uint32_t position = layout_.n_tokens + suffix_.n_tokens();
  model_.decoder.step(tokens, position, attention_, n_logits, logits);
  suffix_.add(tokens);
}

}  // namespace polykv
