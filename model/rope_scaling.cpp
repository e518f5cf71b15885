// Linear scaling, YaRN, and Llama 3's, which GGUF files give as one factor per frequency.
#include "model/rope_scaling.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "model/gguf.h"
#include "model/rope.h"

namespace polykv {
namespace {

class ScalingReader {
 public:
  ScalingReader(const Parameters& file, ModelConfig& config) : file_(file), config_(config) {}
  Status run();

 private:
  std::unexpected<Error> unsupported(const std::string& what, std::string value) const {
    return fail(ErrorCode::unsupported_model, cat(file_.place(), ": ", what), std::move(value));
  }
  Status number(std::string_view key, float& out) const;
  Status linear();
  Status llama3();
  Status original_positions();
  Status yarn();
  Status refuse_yarn_variants() const;
  Status attention_factor();
  Status factors(const std::vector<float>& said);
  bool has_factors(const std::vector<float>& said) const;

  const Parameters& file_;
  ModelConfig& config_;
};

Status ScalingReader::number(std::string_view key, float& out) const {
  auto value = file_.number(key);
  if (!value) return pass(value);
  out = static_cast<float>(*value);
  return {};
}

// A factor of 1 (or 0, which old files write) is none.
Status ScalingReader::linear() {
  for (const std::string_view key : {"rope.scaling.factor", "rope.scale_linear"}) {
    if (!file_.has(key)) continue;
    float factor = 1;
    auto read = number(key, factor);
    if (!read) return read;
    if (factor == 0 || factor == 1) continue;
    config_.rope_scaling = RopeScaling::linear;
    config_.rope_factor = factor;
  }
  return {};
}

Status ScalingReader::llama3() {
  config_.rope_scaling = RopeScaling::llama3;
  auto read = number("rope.scaling.factor", config_.rope_factor);
  if (read) read = number("rope.scaling.low_freq_factor", config_.rope_low);
  if (read) read = number("rope.scaling.high_freq_factor", config_.rope_high);
  return read ? original_positions() : read;
}

Status ScalingReader::original_positions() {
  auto positions = file_.integer("rope.scaling.original_context_length");
  if (!positions) return pass(positions);
  config_.rope_positions = static_cast<uint32_t>(std::min<uint64_t>(*positions, UINT32_MAX));
  return {};
}

// What else than the paper's defaults files of other families may say.
Status ScalingReader::refuse_yarn_variants() const {
  for (const std::string_view key :
       {"rope.scaling.mscale", "rope.scaling.mscale_all_dim", "rope.scaling.truncate",
        "rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor",
        "rope.scaling.yarn_log_multiplier"}) {
    if (!file_.has(key)) continue;
    return unsupported(
        cat("RoPE scaling of the kind \"yarn\" with ", file_.name_of(key), " is not supported"),
        file_.name_of(key));
  }
  return {};
}

// Hugging Face's attention_factor replaces the default, GGUF's attn_factor multiplies it.
Status ScalingReader::attention_factor() {
  const float usual = 1 + 0.1F * std::log(std::max(config_.rope_factor, 1.0F));
  const std::string_view key =
      file_.is_gguf() ? "rope.scaling.attn_factor" : "rope.scaling.attention_factor";
  float said = file_.is_gguf() ? 1 : usual;
  auto read = file_.has(key) ? number(key, said) : Status();
  config_.rope_attention = file_.is_gguf() ? usual * said : said;
  return read;
}

// A context stretched by the factor is what it is for, whatever length the file names.
Status ScalingReader::yarn() {
  config_.rope_scaling = RopeScaling::yarn;
  config_.rope_low = 1;
  config_.rope_high = 32;
  config_.rope_positions = config_.n_positions;
  auto read = refuse_yarn_variants();
  if (read) read = number("rope.scaling.factor", config_.rope_factor);
  if (read) read = attention_factor();
  for (auto [key, out] : {std::pair("rope.scaling.yarn_beta_slow", &config_.rope_low),
                          std::pair("rope.scaling.yarn_beta_fast", &config_.rope_high)}) {
    if (read && file_.has(key)) read = number(key, *out);
  }
  if (read && file_.has("rope.scaling.original_context_length")) read = original_positions();
  const double stretched = double{config_.rope_factor} * config_.rope_positions;
  if (stretched > config_.n_positions && stretched < double{UINT32_MAX}) {
    config_.n_positions = static_cast<uint32_t>(stretched);
  }
  return read;
}

// True if the configuration's frequencies are the unscaled ones divided by these factors.
bool ScalingReader::has_factors(const std::vector<float>& said) const {
  ModelConfig plain = config_;
  plain.rope_scaling = RopeScaling::none;
  const auto without = rope_frequencies(plain), with = rope_frequencies(config_);
  if (said.size() != with.size()) return false;
  for (size_t i = 0; i < with.size(); ++i) {
    const double factor = without[i] / with[i];
    if (!(std::abs(said[i] - factor) <= 1e-4 * factor)) return false;
  }
  return true;
}

// The file's converter worked the factors out from four numbers, of which the models that exist
// share three. Anything else would be another kind of scaling.
Status ScalingReader::factors(const std::vector<float>& said) {
  const float most = std::ranges::max(said);
  if (most == 1 && std::ranges::min(said) == 1) return {};
  config_.rope_scaling = RopeScaling::llama3;
  config_.rope_factor = most;
  config_.rope_low = 1;
  config_.rope_high = 4;
  config_.rope_positions = 8192;
  if (most > 1 && std::isfinite(most) && has_factors(said)) return {};
  return unsupported(cat("the RoPE factors of rope_freqs.weight (", said.size(), ", at most ", most,
                         ") are not Llama 3's; other ones are not supported"),
                     cat(most));
}

Status ScalingReader::run() {
  std::string_view type;
  constexpr std::string_view kType = "rope.scaling.type";
  if (file_.has(kType)) {
    auto said = file_.text(kType);
    if (!said) return pass(said);
    type = *said;
  }
  if (type == "llama3") return llama3();
  if (type == "yarn") return yarn();
  if (!type.empty() && type != "none" && type != "default" && type != "linear") {
    return unsupported(cat("RoPE scaling of the kind ", printable(type), " is not supported"),
                       std::string(type));
  }
  auto done = type.empty() || type == "linear" ? linear() : Status{};
  if (!done) return done;
  auto said = file_.rope_factors();
  if (!said) return pass(said);
  return said->empty() ? Status{} : factors(*said);
}

}  // namespace

Status read_rope_scaling(const Parameters& file, ModelConfig& config) {
  return ScalingReader(file, config).run();
}

}  // namespace polykv
