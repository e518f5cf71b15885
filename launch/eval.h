// `polykv eval`: what a codec costs on a real model, measured through the real path: the writer's
// encoder, sealed segments, an agent's attention.
//
// Protocol "eval v1": two windows per text, each 2,048 tokens prefilled in f32 and encoded,
// followed by 512 forced tokens with their own K/V in f32. Baseline: codec f32. KLD is KL(baseline
// || codec) per predicted token; NLL over the 511 next tokens inside the continuation. The text is
// tokenised as it is.
#pragma once

#include <string>
#include <vector>

#include "launch/session.h"

namespace polykv {

inline constexpr uint32_t kEvalPrefix = 2048;
inline constexpr uint32_t kEvalForced = 512;

struct EvalOptions {
  SupervisorOptions supervisor;
  std::string runtime;  // "" = private
  std::vector<std::string> text;
  std::vector<std::string> codecs;
  uint32_t n_windows = 2;   // eval v1 has two
  bool arithmetic = false;  // launch/eval_arithmetic.h instead
  bool per_layer = false;   // launch/eval_layers.h, too
  std::string json;         // path, "" = none
};

// One codec over all windows.
struct EvalRow {
  std::string codec;
  double bits_per_element = 0;
  double delta_ppl_percent = 0;
  double delta_ppl_se = 0;  // standard error of the paired NLL difference, in percent
  double kld_median = 0, kld_mean = 0, kld_p99 = 0;
  double top1_percent = 0;
  uint64_t widened_planes = 0;  // of K, in all windows
  std::vector<Message> layers;  // layer_stats of the first window, if they were asked for
};

Status run_eval(const EvalOptions& options, int interrupt_fd);

}  // namespace polykv
