// Forced tokens, a pass at a time.
#include "agents/score.h"

#include <algorithm>

#include "agents/stream.h"

namespace polykv {

Result<UniqueFd> score(AgentModel& model, const Layout& layout, std::span<const uint32_t> tokens,
                       const std::function<void(uint32_t done)>& progress) {
  const ModelConfig& config = model.image.config();
  if (tokens.empty() || layout.n_tokens + tokens.size() > config.n_positions) {
    return fail(ErrorCode::context_too_long,
                cat("cannot score ", tokens.size(), " tokens after ", layout.n_tokens,
                    ": the model has ", config.n_positions, " positions"),
                cat(tokens.size()), cat(config.n_positions));
  }
  auto memory = SharedBuilder::create(
      "polykv-scores", tokens.size() * config.n_vocab * sizeof(float), memory_room());
  if (!memory) return pass(memory);
  auto* logits = reinterpret_cast<float*>(memory->data().data());
  Suffix suffix(config, layout);
  if (auto room = suffix.reserve(0, static_cast<uint32_t>(tokens.size())); !room) {
    return pass(room);
  }
  Stream stream(model, layout, suffix);
  for (size_t at = 0; at < tokens.size(); at += Decoder::kRowsMax) {
    const auto n = static_cast<uint32_t>(std::min<size_t>(Decoder::kRowsMax, tokens.size() - at));
    stream.pass_over(tokens.subspan(at, n), n, logits + at * config.n_vocab);
    progress(static_cast<uint32_t>(at) + n);
  }
  return std::move(*memory).seal();
}

}  // namespace polykv
