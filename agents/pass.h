// One pass of the decoder over tokens of several streams: weights, and what layouts share, are read
// once for all of them.
#pragma once

#include <array>
#include <span>

#include "agents/agent_model.h"
#include "agents/pool_attention.h"

namespace polykv {

class Pass : private Attention {
 public:
  explicit Pass(AgentModel& model) : model_(model) {}

  // The next tokens of a stream. n_logits: of the last rows. Streams of one layout that are added
  // one after the other share the pass over its bytes. REQUIRES: tokens fit into free() and into
  // the suffix's room; each suffix once a pass.
  void add(PoolAttention& attention, Suffix& suffix, std::span<const uint32_t> tokens,
           uint32_t n_logits);
  uint32_t free() const { return Decoder::kRowsMax - n_rows_; }  // rows
  // Computes what was added, and counts it in the suffixes. logits: [all n_logits, n_vocab], in the
  // order of adding. No row's result depends on the others. No allocation.
  void run(float* logits);

 private:
  void attend(const AttentionCall& call) override;

  template <class T>
  using PerRow = std::array<T, Decoder::kRowsMax>;
  AgentModel& model_;
  uint32_t n_rows_ = 0, n_wanted_ = 0;
  PerRow<uint32_t> tokens_, positions_, wanted_;
  PerRow<PoolAttention*> attentions_;
  PerRow<Suffix*> suffixes_;
};

}  // namespace polykv
