// The table of families, and refusals that several of them share.
#include "model/family.h"

namespace polykv {
namespace {

constexpr Family kFamilies[] = {
    {"llama", "llama", complete_llama},    // Llama 2, 3, 3.1, 3.2, SmolLM2
    {"llama", "mistral", complete_llama},  // GGUF calls it llama
    {"qwen2", "qwen2", complete_qwen2},    // Qwen2, Qwen2.5
    {"qwen3", "qwen3", complete_qwen3},
};

}  // namespace

const Family* find_family(const Parameters& file) {
  for (const Family& family : kFamilies) {
    const std::string_view name = file.is_gguf() ? family.gguf_name : family.hub_name;
    if (name == file.architecture()) return &family;
  }
  return nullptr;
}

std::string family_names() {
  std::string names;
  for (const Family& family : kFamilies) {
    names += cat(names.empty() ? "" : ", ", family.hub_name);
  }
  return names;
}

std::unexpected<Error> unsupported(const Parameters& file, const std::string& what,
                                   std::string value) {
  return fail(ErrorCode::unsupported_model, cat(file.place(), ": ", what), std::move(value));
}

Status refuse_experts(const Parameters& file) {
  if (!file.has("expert_count")) return {};
  auto n = file.integer("expert_count");
  if (!n) return pass(n);
  if (*n == 0) return {};
  return unsupported(file, cat("a mixture of ", *n, " experts is not supported"), cat(*n));
}

Status refuse_window(const Parameters& file, const ModelConfig& config) {
  constexpr std::string_view kWindow = "attention.sliding_window";
  if (!file.has(kWindow)) return {};
  auto window = file.integer(kWindow);
  if (!window) return pass(window);
  if (*window == 0 || *window >= config.n_positions) return {};
  return unsupported(
      file,
      cat("attention through a sliding window is not supported: ", file.name_of(kWindow), " is ",
          *window, ", shorter than the context of ", config.n_positions),
      cat(*window));
}

}  // namespace polykv
