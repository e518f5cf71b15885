// GGUF's names to those of config.json.
#include "model/hub_parameters.h"

#include <cmath>

namespace polykv {
namespace {

// rope: in "rope_parameters" or, before transformers 5, "rope_scaling"; local_rope: in the part of
// the first that layers with a window have.
enum class Where { outside, rope, local_rope };
struct KeyName {
  std::string_view key, name;
  Where where = Where::outside;
};
constexpr KeyName kNames[] = {
    {"block_count", "num_hidden_layers"},
    {"context_length", "max_position_embeddings"},
    {"embedding_length", "hidden_size"},
    {"feed_forward_length", "intermediate_size"},
    {"attention.head_count", "num_attention_heads"},
    {"attention.head_count_kv", "num_key_value_heads"},
    {"attention.key_length", "head_dim"},
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps"},
    {"attention.sliding_window", "sliding_window"},
    {"attention.sliding_window_pattern", "sliding_window_pattern"},
    {"use_sliding_window", "use_sliding_window"},
    {"max_window_layers", "max_window_layers"},
    {"vocab_size", "vocab_size"},
    {"tie_word_embeddings", "tie_word_embeddings"},
    {"expert_count", "num_local_experts"},
    {"activation", "hidden_act"},
    {"hidden_activation", "hidden_activation"},
    {"query_pre_attn_scalar", "query_pre_attn_scalar"},
    {"attn_logit_softcapping", "attn_logit_softcapping"},
    {"final_logit_softcapping", "final_logit_softcapping"},
    {"bidirectional_attention", "use_bidirectional_attention"},
    {"rope.freq_base", "rope_theta", Where::rope},
    {"rope.freq_base_swa", "rope_theta", Where::local_rope},
    {"rope.scaling.type", "rope_type", Where::rope},
    {"rope.scaling.type_swa", "rope_type", Where::local_rope},
    {"rope.scaling.factor", "factor", Where::rope},
    {"rope.scaling.low_freq_factor", "low_freq_factor", Where::rope},
    {"rope.scaling.high_freq_factor", "high_freq_factor", Where::rope},
    {"rope.scaling.attention_factor", "attention_factor", Where::rope},
    {"rope.scaling.yarn_beta_fast", "beta_fast", Where::rope},
    {"rope.scaling.yarn_beta_slow", "beta_slow", Where::rope},
    {"rope.scaling.mscale", "mscale", Where::rope},
    {"rope.scaling.mscale_all_dim", "mscale_all_dim", Where::rope},
    {"rope.scaling.truncate", "truncate", Where::rope},
    {"rope.scaling.original_context_length", "original_max_position_embeddings", Where::rope},
};

// What a configuration of Gemma 3 leaves out where it is as in the first of that name.
constexpr std::string_view kGemma3Defaults = R"({"num_attention_heads": 8, "head_dim": 256,
  "num_key_value_heads": 4, "max_position_embeddings": 131072, "rms_norm_eps": 1e-6,
  "sliding_window": 4096, "query_pre_attn_scalar": 256, "rope_theta": 1000000,
  "tie_word_embeddings": true})";

const Json& defaults_of(std::string_view architecture) {
  static const Json none;
  static const Json gemma3 = *Json::parse(kGemma3Defaults, "defaults");
  return architecture == "gemma3_text" ? gemma3 : none;
}

const KeyName* name_for(std::string_view key) {
  for (const KeyName& known : kNames) {
    if (known.key == key) return &known;
  }
  return nullptr;
}

// Of RoPE's settings `name`; nullptr: it is not there.
const Json* find_in_rope(const Json& config, std::string_view name, bool local) {
  for (const char* group : {"rope_parameters", "rope_scaling"}) {
    const Json* rope = config.find(group);
    const Json* part =
        rope == nullptr ? nullptr : rope->find(local ? "sliding_attention" : "full_attention");
    if (part != nullptr || local) rope = part;
    if (rope == nullptr) continue;
    if (const Json* found = rope->find(name)) return found;
    if (const Json* found = name == "rope_type" ? rope->find("type") : nullptr) return found;
  }
  // Of the scaling only the base may stand outside.
  if (name != "rope_theta") return nullptr;
  return config.find(local ? "rope_local_base_freq" : "rope_theta");
}

}  // namespace

std::string HubParameters::name_of(std::string_view key) const {
  const KeyName* known = name_for(key);
  return std::string(known == nullptr ? key : known->name);
}

const Json* HubParameters::find(std::string_view key) const {
  const KeyName* known = name_for(key);
  if (known == nullptr) return nullptr;
  const Json* found = known->where == Where::outside
                          ? config_.find(known->name)
                          : find_in_rope(config_, known->name, known->where == Where::local_rope);
  if (found != nullptr || known->where == Where::local_rope) return found;
  return defaults_of(architecture()).find(known->name);
}

std::unexpected<Error> HubParameters::bad(std::string_view key, const std::string& what) const {
  return fail(ErrorCode::bad_model_file, cat(place_, ": ", name_of(key), " of config.json ", what),
              name_of(key));
}

Result<uint64_t> HubParameters::integer(std::string_view key) const {
  const Json* found = find(key);
  if (found == nullptr) return bad(key, "is missing");
  const double* number = found->number();
  const bool whole =
      number != nullptr && *number >= 0 && *number < 9e15 && std::floor(*number) == *number;
  if (!whole) return bad(key, "is not a whole number from 0 up");
  return static_cast<uint64_t>(*number);
}

Result<double> HubParameters::number(std::string_view key) const {
  const Json* found = find(key);
  if (found == nullptr) return bad(key, "is missing");
  if (found->number() == nullptr) return bad(key, "is not a number");
  return *found->number();
}

Result<bool> HubParameters::flag(std::string_view key) const {
  const Json* found = find(key);
  if (found == nullptr) return bad(key, "is missing");
  if (found->flag() == nullptr) return bad(key, "is not true or false");
  return *found->flag();
}

Result<std::string_view> HubParameters::text(std::string_view key) const {
  const Json* found = find(key);
  if (found == nullptr) return bad(key, "is missing");
  if (found->text() == nullptr) return bad(key, "is not a text");
  return std::string_view(*found->text());
}

Result<std::vector<bool>> HubParameters::windowed_layers() const {
  std::vector<bool> out;
  const Json* types = config_.find("layer_types");
  if (types == nullptr) return out;
  if (types->list() == nullptr) {
    return fail(ErrorCode::bad_model_file, cat(place_, ": layer_types of config.json is no list"),
                "layer_types");
  }
  for (const Json& type : *types->list()) {
    const std::string said = type.text() == nullptr ? "" : *type.text();
    if (said != "full_attention" && said != "sliding_attention") {
      return fail(ErrorCode::unsupported_model,
                  cat(place_, ": layers of the kind ", printable(said),
                      " (layer_types) are not supported; full_attention and sliding_attention are"),
                  printable(said));
    }
    out.push_back(said == "sliding_attention");
  }
  return out;
}

Status HubParameters::refuse_others(const Json& all) const {
  const auto refuse = [&](const std::string& what, std::string value) {
    return fail(ErrorCode::unsupported_model, cat(place_, ": ", what), std::move(value));
  };
  if (config_.find("quantization_config") != nullptr ||
      all.find("quantization_config") != nullptr) {
    return refuse("its weights are quantised (quantization_config); expected F32, F16 or BF16",
                  "quantization_config");
  }
  const Json* partial = config_.find("partial_rotary_factor");
  if (partial != nullptr && (partial->number() == nullptr || *partial->number() != 1)) {
    return refuse("RoPE over a part of each head (partial_rotary_factor) is not supported",
                  "partial_rotary_factor");
  }
  return {};
}

}  // namespace polykv
