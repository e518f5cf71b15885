// GGUF's names to those of config.json.
#include "model/hub_parameters.h"

#include <cmath>

namespace polykv {
namespace {

struct KeyName {
  std::string_view key, name;
  bool of_rope = false;  // in "rope_parameters" or, before transformers 5, "rope_scaling"
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
    {"use_sliding_window", "use_sliding_window"},
    {"vocab_size", "vocab_size"},
    {"expert_count", "num_local_experts"},
    {"rope.freq_base", "rope_theta", true},
    {"rope.scaling.type", "rope_type", true},
    {"rope.scaling.factor", "factor", true},
    {"rope.scaling.low_freq_factor", "low_freq_factor", true},
    {"rope.scaling.high_freq_factor", "high_freq_factor", true},
    {"rope.scaling.attention_factor", "attention_factor", true},
    {"rope.scaling.yarn_beta_fast", "beta_fast", true},
    {"rope.scaling.yarn_beta_slow", "beta_slow", true},
    {"rope.scaling.mscale", "mscale", true},
    {"rope.scaling.mscale_all_dim", "mscale_all_dim", true},
    {"rope.scaling.truncate", "truncate", true},
    {"rope.scaling.original_context_length", "original_max_position_embeddings", true},
};

const KeyName* name_for(std::string_view key) {
  for (const KeyName& known : kNames) {
    if (known.key == key) return &known;
  }
  return nullptr;
}

bool all_full(const Json& layer_types) {
  if (layer_types.list() == nullptr) return false;
  for (const Json& type : *layer_types.list()) {
    if (type.text() == nullptr || *type.text() != "full_attention") return false;
  }
  return true;
}

}  // namespace

std::string HubParameters::name_of(std::string_view key) const {
  const KeyName* known = name_for(key);
  return std::string(known == nullptr ? key : known->name);
}

const Json* HubParameters::find(std::string_view key) const {
  const KeyName* known = name_for(key);
  if (known == nullptr) return nullptr;
  for (const char* group : {"rope_parameters", "rope_scaling"}) {
    const Json* rope = known->of_rope ? config_.find(group) : nullptr;
    if (rope == nullptr) continue;
    if (const Json* found = rope->find(known->name)) return found;
    const bool type = known->name == "rope_type";
    if (const Json* found = type ? rope->find("type") : nullptr) return found;
  }
  // Of the scaling only the base may stand outside.
  return known->of_rope && known->name != "rope_theta" ? nullptr : config_.find(known->name);
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

Status HubParameters::refuse_others() const {
  const auto refuse = [&](const std::string& what, std::string value) {
    return fail(ErrorCode::unsupported_model, cat(place_, ": ", what), std::move(value));
  };
  const std::string_view act = config_.text_of("hidden_act", "silu");
  if (act != "silu" && act != "swish") {
    return refuse(cat("the activation ", printable(act), " is not supported"), std::string(act));
  }
  if (config_.find("quantization_config") != nullptr) {
    return refuse("its weights are quantised (quantization_config); expected F32, F16 or BF16",
                  "quantization_config");
  }
  const Json* partial = config_.find("partial_rotary_factor");
  if (partial != nullptr && (partial->number() == nullptr || *partial->number() != 1)) {
    return refuse("RoPE over a part of each head (partial_rotary_factor) is not supported",
                  "partial_rotary_factor");
  }
  const Json* layers = config_.find("layer_types");
  if (layers != nullptr && !all_full(*layers)) {
    return refuse("layers of another kind than full_attention (layer_types) are not supported",
                  "layer_types");
  }
  return {};
}

}  // namespace polykv
