// Rows of several streams as one step of the decoder; their attention layout by layout.
#include "agents/pass.h"

namespace polykv {

void Pass::add(PoolAttention& attention, Suffix& suffix, std::span<const uint32_t> tokens,
               uint32_t n_logits) {
  check(tokens.size() <= free() && n_logits <= tokens.size(), "a pass has room for its rows");
  const uint32_t first = attention.layout().n_tokens + suffix.n_tokens();
  for (uint32_t i = 0; i < tokens.size(); ++i, ++n_rows_) {
    tokens_[n_rows_] = tokens[i];
    positions_[n_rows_] = first + i;
    attentions_[n_rows_] = &attention;
    suffixes_[n_rows_] = &suffix;
    if (i + n_logits >= tokens.size()) wanted_[n_wanted_++] = n_rows_;
  }
}

void Pass::run(float* logits) {
  if (n_rows_ == 0) return;
  model_.decoder.step({.tokens = std::span(tokens_).first(n_rows_),
                       .positions = positions_.data(),
                       .wanted = std::span(wanted_).first(n_wanted_),
                       .logits = logits},
                      *this);
  for (uint32_t i = 0; i < n_rows_; ++i) suffixes_[i]->add(std::span(&tokens_[i], 1));
  n_rows_ = n_wanted_ = 0;
}

// Runs of rows on one layout go to it together.
void Pass::attend(const AttentionCall& call) {
  const ModelConfig& config = model_.image.config();
  const size_t q_row = size_t{config.n_heads} * config.head_dim;
  const size_t kv_row = size_t{config.n_kv_heads} * config.head_dim;
  for (uint32_t begin = 0, end = 0; begin < call.n_rows; begin = end) {
    while (end < call.n_rows && attentions_[end] == attentions_[begin]) ++end;
    AttentionCall part = call;
    part.n_rows = end - begin;
    part.positions += begin;
    part.q += begin * q_row;
    part.k += begin * kv_row;
    part.v += begin * kv_row;
    part.out += begin * q_row;
    attentions_[begin]->attend(part, &suffixes_[begin]);
  }
}

}  // namespace polykv
