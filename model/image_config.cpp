// What every family has; the rest is the family's (model/family.h).
#include "model/image_config.h"

#include "model/family.h"
#include "model/gguf.h"
#include "model/image_plan.h"
#include "model/rope_scaling.h"

namespace polykv {
namespace {

class ConfigReader {
 public:
  explicit ConfigReader(const Parameters& file) : file_(file) {}
  Result<ModelConfig> run();

 private:
  std::unexpected<Error> refuse(ErrorCode code, const std::string& what, std::string value) const {
    return fail(code, cat(file_.place(), ": ", what), std::move(value));
  }
  Status complete();
  Status check() const;
  Status sizes();
  Status head_dim();
  Status floats();
  Status vocabulary();
  Status read_u32(std::string_view key, uint32_t& out) const;
  Status must_be(std::string_view key, uint64_t wanted) const;

  const Parameters& file_;
  ModelConfig config_;
};

Status ConfigReader::complete() {
  const Family* family = find_family(file_);
  if (family != nullptr) return family->complete(file_, config_);
  return fail(ErrorCode::unsupported_model,
              cat(file_.place(), ": the architecture is ", printable(file_.architecture()),
                  "; this build runs ", family_names()),
              printable(file_.architecture()), family_names());
}

Status ConfigReader::read_u32(std::string_view key, uint32_t& out) const {
  auto value = file_.integer(key);
  if (!value) return pass(value);
  if (*value > UINT32_MAX) {
    return refuse(ErrorCode::bad_model_file,
                  cat(file_.name_of(key), " is ", *value, "; at most ", UINT32_MAX),
                  std::to_string(*value));
  }
  out = static_cast<uint32_t>(*value);
  return {};
}

// An optional key that must not say anything but `wanted`.
Status ConfigReader::must_be(std::string_view key, uint64_t wanted) const {
  if (!file_.has(key)) return {};
  auto value = file_.integer(key);
  if (!value) return pass(value);
  if (*value == wanted) return {};
  return fail(ErrorCode::unsupported_model,
              cat(file_.place(), ": ", file_.name_of(key), " is ", *value, " but head_dim is ",
                  wanted, "; only equal values are supported"),
              std::to_string(*value), std::to_string(wanted));
}

Status ConfigReader::sizes() {
  struct Field {
    std::string_view key;
    uint32_t& out;
  };
  const Field fields[] = {
      {"block_count", config_.n_layers},         {"context_length", config_.n_positions},
      {"embedding_length", config_.d_model},     {"feed_forward_length", config_.d_ff},
      {"attention.head_count", config_.n_heads},
  };
  for (const Field& field : fields) {
    auto read = read_u32(field.key, field.out);
    if (!read) return read;
  }
  config_.n_kv_heads = config_.n_heads;
  constexpr std::string_view kKvHeads = "attention.head_count_kv";
  return file_.has(kKvHeads) ? read_u32(kKvHeads, config_.n_kv_heads) : Status{};
}

Status ConfigReader::head_dim() {
  constexpr std::string_view kKeyLength = "attention.key_length";
  if (file_.has(kKeyLength)) {
    auto read = read_u32(kKeyLength, config_.head_dim);
    if (!read) return read;
  } else if (config_.n_heads == 0 || config_.d_model % config_.n_heads != 0) {
    return refuse(
        ErrorCode::bad_model_file,
        cat("the width ", config_.d_model, " cannot be divided among ", config_.n_heads, " heads"),
        std::to_string(config_.n_heads));
  } else {
    config_.head_dim = config_.d_model / config_.n_heads;
  }
  for (const std::string_view key : {"attention.value_length", "rope.dimension_count"}) {
    auto same = must_be(key, config_.head_dim);
    if (!same) return same;
  }
  if (config_.head_dim == 64 || config_.head_dim == 128 || config_.head_dim == 256) return {};
  return fail(
      ErrorCode::unsupported_model,
      cat(file_.place(), ": head_dim is ", config_.head_dim, "; supported are 64, 128 and 256"),
      std::to_string(config_.head_dim), "64, 128, 256");
}

Status ConfigReader::floats() {
  auto eps = file_.number("attention.layer_norm_rms_epsilon");
  if (!eps) return pass(eps);
  config_.rms_eps = static_cast<float>(*eps);
  config_.rope_base = 10000;
  constexpr std::string_view kBase = "rope.freq_base";
  if (!file_.has(kBase)) return {};
  auto base = file_.number(kBase);
  if (!base) return pass(base);
  config_.rope_base = static_cast<float>(*base);
  return {};
}

// The number of tokens is the embedding's rows, and what the file says of it must agree.
Status ConfigReader::vocabulary() {
  const uint64_t rows = file_.embedding_rows();
  if (rows == 0 || rows > UINT32_MAX) {
    return refuse(ErrorCode::bad_model_file,
                  cat("the token embedding ", rows == 0 ? "is missing" : "has an absurd shape",
                      "; expected token_embd.weight (GGUF) or embed_tokens.weight with a row for "
                      "each token"),
                  std::to_string(rows));
  }
  config_.n_vocab = static_cast<uint32_t>(rows);
  uint32_t said = config_.n_vocab;
  constexpr std::string_view kVocab = "vocab_size";
  if (file_.has(kVocab)) {
    auto read = read_u32(kVocab, said);
    if (!read) return read;
  }
  if (said == config_.n_vocab) return {};
  return refuse(ErrorCode::bad_model_file,
                cat(file_.name_of(kVocab), " is ", said, " but the token embedding has ",
                    config_.n_vocab, " rows"),
                std::to_string(said));
}

Status ConfigReader::check() const {
  if (const auto problem = check_config(config_)) {
    return refuse(ErrorCode::bad_model_file, *problem, "");
  }
  return {};
}

Result<ModelConfig> ConfigReader::run() {
  if (find_family(file_) == nullptr) return pass(complete());
  auto done = sizes();
  if (done) done = head_dim();
  if (done) done = floats();
  if (done) done = read_rope_scaling(file_, config_);
  if (done) done = vocabulary();
  config_.tied_head = file_.has_head() ? 0 : 1;
  if (done) done = check();  // a family may count on sane sizes
  if (done) done = complete();
  if (done) done = check();
  if (!done) return pass(done);
  return config_;
}

}  // namespace

Result<ModelConfig> read_config(const Parameters& file) { return ConfigReader(file).run(); }

}  // namespace polykv
