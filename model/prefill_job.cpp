// What of a prefill can be said before anything is computed.
#include <algorithm>

#include "model/prefill.h"

namespace polykv {

std::vector<uint32_t> query_tokens(uint32_t n_tokens) {
  const uint64_t n = std::min(n_tokens, kQueryTokens);
  std::vector<uint32_t> tokens;
  for (uint64_t i = 1; i <= n; ++i) tokens.push_back(static_cast<uint32_t>(i * n_tokens / n - 1));
  return tokens;
}

Status check_prefill(const ModelConfig& config, const PrefillJob& job) {
  const uint64_t all = uint64_t{job.past_tokens} + job.tokens.size();
  if (job.tokens.empty())
    return fail(ErrorCode::bad_text, "there is no token to prefill", "0", "1");
  if (all > config.n_positions) {
    return fail(ErrorCode::context_too_long,
                cat("the context has ", all, " tokens, the model's positions end at ",
                    config.n_positions, ": shorten the text"),
                cat(all), cat(config.n_positions));
  }
  for (uint32_t token : job.tokens) {
    if (token >= config.n_vocab) {
      return fail(ErrorCode::internal,
                  cat("token ", token, " is outside the vocabulary of ", config.n_vocab),
                  cat(token), cat(config.n_vocab));
    }
  }
  check(job.past_tokens == 0 || job.past, "a prefill with a past needs a function that gives it");
  return {};
}

}  // namespace polykv
