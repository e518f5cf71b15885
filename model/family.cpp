// The table of families, and refusals that several of them share.
#include "model/family.h"

#include <algorithm>

#include "model/gguf.h"

namespace polykv {
namespace {

constexpr Family kFamilies[] = {
    {"llama", "llama", complete_llama},      // Llama 2, 3, 3.1, 3.2, SmolLM2
    {"llama", "mistral", complete_mistral},  // GGUF calls it llama
    {"qwen2", "qwen2", complete_qwen2},      // Qwen2, Qwen2.5
    {"qwen3", "qwen3", complete_qwen3},
    {"gemma3", "gemma3_text", complete_gemma3},  // not what sees images
};

constexpr std::string_view kWindow = "attention.sliding_window";

// Where a file lists its layers' windows, for messages.
std::string list_name(const Parameters& file) {
  return file.is_gguf() ? file.name_of("attention.sliding_window_pattern") : "layer_types";
}

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

Status require_silu(const Parameters& file) {
  constexpr std::string_view kKey = "activation";
  if (!file.has(kKey)) return {};
  auto said = file.text(kKey);
  if (!said) return pass(said);
  if (*said == "silu" || *said == "swish") return {};
  return unsupported(file, cat("the activation ", printable(*said), " is not supported here"),
                     printable(*said));
}

Status refuse_window(const Parameters& file, const ModelConfig& config) {
  auto layers = file.windowed_layers();
  if (!layers) return pass(layers);
  if (std::ranges::count(*layers, true) > 0) {
    return unsupported(file,
                       cat("layers with a sliding window (", list_name(file),
                           ") are not supported in this family"),
                       list_name(file));
  }
  if (!file.has(kWindow)) return {};
  auto window = file.integer(kWindow);
  if (!window) return pass(window);
  if (*window == 0 || *window >= config.n_positions) return {};
  return unsupported(file,
                     cat("attention through a sliding window is not supported in this family: ",
                         file.name_of(kWindow), " is ", *window, ", shorter than the context of ",
                         config.n_positions),
                     cat(*window));
}

Status set_windows(const Parameters& file, ModelConfig& config, const std::vector<bool>& layers,
                   const std::string& said) {
  if (layers.size() != config.n_layers) {
    return fail(ErrorCode::bad_model_file,
                cat(file.place(), ": ", said, " lists ", layers.size(), " layers; there are ",
                    config.n_layers),
                cat(layers.size()), cat(config.n_layers));
  }
  auto tokens = std::ranges::count(layers, true) == 0 ? 0 : file.integer(kWindow);
  if (!tokens) return pass(tokens);
  if (*tokens == 0) return {};
  const auto full = std::ranges::find(layers, false);
  config.windows.tokens = static_cast<uint32_t>(std::min<uint64_t>(*tokens, UINT32_MAX));
  config.windows.period =
      full == layers.end() ? 0 : static_cast<uint32_t>(full - layers.begin()) + 1;
  for (uint32_t i = 0; i < config.n_layers; ++i) {
    if ((config.windows.of(i) != 0) == layers[i]) continue;
    return unsupported(
        file,
        cat("layer ", i, " breaks the pattern of sliding windows (", said,
            "): supported are windows in all layers, or in all but the last of every n"),
        said);
  }
  return {};
}

Status read_windows(const Parameters& file, ModelConfig& config, uint32_t period) {
  auto listed = file.windowed_layers();
  if (!listed) return pass(listed);
  if (!listed->empty()) return set_windows(file, config, *listed, list_name(file));
  if (!file.has(kWindow)) return {};
  std::vector<bool> layers(config.n_layers);
  for (uint32_t i = 0; i < config.n_layers; ++i) layers[i] = period == 0 || (i + 1) % period != 0;
  return set_windows(file, config, layers, file.name_of(kWindow));
}

}  // namespace polykv
