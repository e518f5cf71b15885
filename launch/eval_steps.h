// What an evaluation asks a runtime for: tokens, pools of one prefill, scores.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ipc/memory.h"
#include "launch/client.h"
#include "launch/progress.h"

namespace polykv {

inline constexpr const char* kEvalBaseline = "f32";  // the codec that loses nothing

// The text's tokens, as it is.
Result<std::vector<uint32_t>> eval_tokens(Client& client, const std::string& text);

// A pool that was made for an evaluation.
struct EvalPool {
  double bits_per_element = 0;
  uint64_t widened_planes = 0;
  std::vector<Message> layers;  // layer_stats, if they were asked for
};
struct EvalPrefill {
  std::string name;
  std::span<const uint32_t> tokens;
  std::vector<std::string> codecs;
  bool per_layer = false;
};
// One prefill, encoded by every codec: pools "<name>-<codec>", in their order.
Result<std::vector<EvalPool>> eval_prefill(Client& client, const EvalPrefill& prefill,
                                           ProgressLine& line);

struct EvalScores {
  SharedView memory;  // [n_tokens, n_vocab] f32
  uint32_t n_vocab;
  std::span<const float> logits() const {
    return {reinterpret_cast<const float*>(memory.data().data()),
            memory.data().size() / sizeof(float)};
  }
};
// Logits after each of the tokens behind a pool, by an agent of its own: it attends to the sealed
// segment and hands its logits back.
Result<EvalScores> eval_score(Client& client, const std::string& pool,
                              std::span<const uint32_t> tokens, ProgressLine& line);

}  // namespace polykv
