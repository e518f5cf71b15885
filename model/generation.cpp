// Two files' words for the same five numbers.
#include "model/generation.h"

#include <cmath>
#include <functional>
#include <optional>

namespace polykv {
namespace {

// What a configuration may ask for besides, and the number that asks for nothing.
struct Undone {
  const char* name;
  double neutral;
};
constexpr Undone kHubUndone[] = {
    {"num_beams", 1},
    {"num_beam_groups", 1},
    {"penalty_alpha", 0},
    {"typical_p", 1},
    {"epsilon_cutoff", 0},
    {"eta_cutoff", 0},
    {"diversity_penalty", 0},
    {"encoder_repetition_penalty", 1},
    {"guidance_scale", 1},
    {"no_repeat_ngram_size", 0},
    {"bad_words_ids", 0},
    {"force_words_ids", 0},
    {"forced_bos_token_id", -1},
    {"forced_eos_token_id", -1},
    {"suppress_tokens", 0},
    {"begin_suppress_tokens", 0},
    {"sequence_bias", 0},
    {"stop_strings", 0},
    {"min_length", 0},
    {"min_new_tokens", 0},
};
constexpr Undone kGgufUndone[] = {{"mirostat", 0}, {"xtc_probability", 0}, {"penalty_last_n", -1}};

std::string notice(std::string_view name) {
  return cat("the file asks for ", name, " when it is sampled; this build does not do that");
}

// A number by its name in the file; nullopt if there is none.
using Look = std::function<Result<std::optional<double>>(const char* name)>;

class GenerationReader {
 public:
  GenerationReader(Look look, std::string place)
      : look_(std::move(look)), place_(std::move(place)) {}

  // Sets the number, if the file has it.
  Result<bool> number(const char* name, float& out) const {
    auto found = look_(name);
    if (!found) return pass(found);
    if (*found) out = static_cast<float>(**found);
    return found->has_value();
  }
  Result<bool> top_k(const char* name, uint32_t& out) const {
    auto found = look_(name);
    if (!found) return pass(found);
    if (!*found) return false;
    const double value = **found;
    const bool whole = value >= 0 && value <= 1e6 && std::floor(value) == value;
    if (!whole) {
      return fail(ErrorCode::bad_model_file,
                  cat(place_, ": ", name, " is ", value, "; expected a whole number from 0 to 1e6"),
                  cat(value));
    }
    out = static_cast<uint32_t>(value);
    return true;
  }
  Result<FileGeneration> checked(FileGeneration generation) const {
    auto fine = check_sampling(generation.sampling);
    if (fine) return generation;
    return fail(ErrorCode::bad_model_file, cat(place_, ": ", fine.error().message),
                fine.error().value, fine.error().limit);
  }

 private:
  Look look_;
  std::string place_;
};

// Whether the file has any of the four that make answers vary.
Result<bool> read_sampling(const GenerationReader& reader, const char* temperature,
                           SamplingOptions& out) {
  out.temperature = 1;
  const auto heat = reader.number(temperature, out.temperature);
  if (!heat) return heat;
  const auto top_p = reader.number("top_p", out.top_p);
  if (!top_p) return top_p;
  const auto min_p = reader.number("min_p", out.min_p);
  if (!min_p) return min_p;
  const auto top_k = reader.top_k("top_k", out.top_k);
  if (!top_k) return top_k;
  return *heat || *top_p || *min_p || *top_k;
}

Result<std::optional<double>> hub_number(const Json& config, const std::string& place,
                                         const char* name) {
  const Json* found = config.find(name);
  if (found == nullptr) return std::nullopt;
  if (found->number() != nullptr) return *found->number();
  return fail(ErrorCode::bad_model_file, cat(place, ": ", name, " is not a number"), name);
}

void add_hub_notices(const Json& config, std::vector<std::string>& notices) {
  for (const Undone& undone : kHubUndone) {
    const Json* found = config.find(undone.name);
    if (found == nullptr) continue;
    const bool neutral = found->number() != nullptr && *found->number() == undone.neutral;
    const bool empty = found->list() != nullptr && found->list()->empty();
    if (!neutral && !empty) notices.push_back(notice(undone.name));
  }
}

Status add_gguf_notices(const GenerationReader& reader, std::vector<std::string>& notices) {
  for (const Undone& undone : kGgufUndone) {
    auto value = static_cast<float>(undone.neutral);
    auto has = reader.number(undone.name, value);
    if (!has) return pass(has);
    if (static_cast<double>(value) != undone.neutral) notices.push_back(notice(undone.name));
  }
  return {};
}

}  // namespace

Result<FileGeneration> hub_generation(const Json& config, const std::string& place) {
  const GenerationReader reader([&](const char* name) { return hub_number(config, place, name); },
                                place);
  FileGeneration out;
  if (config.flag_of("do_sample", false)) {
    auto any = read_sampling(reader, "temperature", out.sampling);
    if (!any) return pass(any);
  }
  auto has = reader.number("repetition_penalty", out.sampling.repetition_penalty);
  if (!has) return pass(has);
  add_hub_notices(config, out.notices);
  return reader.checked(std::move(out));
}

Result<FileGeneration> gguf_generation(const GgufFile& file) {
  const auto look = [&](const char* name) -> Result<std::optional<double>> {
    const std::string key = cat("general.sampling.", name);
    if (!file.has(key)) return std::nullopt;
    if (auto whole = file.integer(key)) return static_cast<double>(*whole);
    auto number = file.number(key);
    if (!number) return pass(number);
    return *number;
  };
  const GenerationReader reader(look, cat("model file ", file.path(), ": general.sampling"));
  FileGeneration out;
  auto any = read_sampling(reader, "temp", out.sampling);
  if (!any) return pass(any);
  if (!*any) out.sampling = {};
  auto has = reader.number("penalty_repeat", out.sampling.repetition_penalty);
  if (!has) return pass(has);
  auto noticed = add_gguf_notices(reader, out.notices);
  if (!noticed) return pass(noticed);
  if (file.has("general.sampling.sequence")) out.notices.push_back(notice("sequence"));
  return reader.checked(std::move(out));
}

}  // namespace polykv
