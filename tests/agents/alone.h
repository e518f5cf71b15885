// One answer by itself, pass by pass: what an agent's lanes must give token for token.
#pragma once

#include <functional>

#include "agents/answer.h"
#include "agents/pass.h"
#include "agents/score.h"

namespace polykv::test {

// Asked before each pass; false cancels.
using GoOn = std::function<bool()>;

inline Result<GenerateResult> generate(AgentModel& model, const Layout& layout, Suffix& suffix,
                                       const GenerateOptions& options, const GoOn& go_on = {}) {
  auto prompt = prompt_of(model, options);
  if (!prompt) return pass(prompt);
  auto answer = Answer::begin(model, layout, suffix, options, *prompt);
  if (!answer) return pass(answer);
  PoolAttention attention(model.image.config(), layout, model.attend, model.team);
  Pass step(model);
  std::vector<float> logits(model.image.config().n_vocab);
  while (!answer->ended()) {
    if (go_on && !go_on()) {
      answer->cancel();
      break;
    }
    const auto tokens = answer->next(step.free());
    const bool decides = answer->decides(tokens.size());
    step.add(attention, suffix, tokens, decides ? 1 : 0);
    step.run(logits.data());
    if (decides) (void)answer->take(logits);
  }
  return answer->result();
}

}  // namespace polykv::test
