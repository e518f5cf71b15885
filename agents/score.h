// Logits of forced tokens: what an evaluation asks an agent for.
#pragma once

#include <functional>
#include <span>

#include "agents/agent_model.h"
#include "ipc/pool.h"

namespace polykv {

// Logits of every forced token, into new sealed memory [n_tokens, n_vocab] f32.
Result<UniqueFd> score(AgentModel& model, const Layout& layout, std::span<const uint32_t> tokens,
                       const std::function<void(uint32_t done)>& progress);

}  // namespace polykv
