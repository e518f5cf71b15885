// Reads llama.* of a GGUF file.
#include "model/image_config.h"

#include <optional>

#include "model/image_plan.h"

namespace polykv {
namespace {

class ConfigReader {
 public:
  explicit ConfigReader(const GgufFile& file) : file_(file) {}
  Result<ModelConfig> run();

 private:
  std::unexpected<Error> refuse(ErrorCode code, const std::string& what, std::string value) const {
    return fail(code, cat("model file ", file_.path(), ": ", what), std::move(value));
  }
  Status architecture() const;
  Status scaling() const;
  Status experts() const;
  Status sizes();
  Status head_dim();
  Status floats();
  Status vocabulary();
  Status read_u32(const char* key, uint32_t& out) const;
  Status must_be(const char* key, uint64_t wanted) const;

  const GgufFile& file_;
  ModelConfig config_;
};

Status ConfigReader::architecture() const {
  auto name = file_.text("general.architecture");
  if (!name) return pass(name);
  if (*name == "llama") return {};
  return fail(ErrorCode::unsupported_model,
              cat("model file ", file_.path(), ": the architecture is ", printable(*name),
                  "; this build runs only \"llama\""),
              printable(*name), "llama");
}

Status ConfigReader::scaling() const {
  constexpr const char* kType = "llama.rope.scaling.type";
  if (file_.has(kType)) {
    auto type = file_.text(kType);
    if (!type) return pass(type);
    if (*type != "none") {
      return refuse(ErrorCode::unsupported_model,
                    cat("RoPE scaling ", printable(*type), " is not supported"), printable(*type));
    }
  }
  for (const char* key : {"llama.rope.scaling.factor", "llama.rope.scale_linear"}) {
    if (!file_.has(key)) continue;
    auto factor = file_.number(key);
    if (!factor) return pass(factor);
    if (*factor != 1 && *factor != 0) {
      return refuse(ErrorCode::unsupported_model,
                    cat("RoPE scaling is not supported: ", key, " is ", *factor), cat(*factor));
    }
  }
  return {};
}

Status ConfigReader::experts() const {
  constexpr const char* kExperts = "llama.expert_count";
  if (!file_.has(kExperts)) return {};
  auto n = file_.integer(kExperts);
  if (!n) return pass(n);
  if (*n == 0) return {};
  return refuse(ErrorCode::unsupported_model, cat("a mixture of ", *n, " experts is not supported"),
                std::to_string(*n));
}

Status ConfigReader::read_u32(const char* key, uint32_t& out) const {
  auto value = file_.integer(key);
  if (!value) return pass(value);
  if (*value > UINT32_MAX) {
    return refuse(ErrorCode::bad_model_file, cat(key, " is ", *value, "; at most ", UINT32_MAX),
                  std::to_string(*value));
  }
  out = static_cast<uint32_t>(*value);
  return {};
}

// An optional key that must not say anything but `wanted`.
Status ConfigReader::must_be(const char* key, uint64_t wanted) const {
  if (!file_.has(key)) return {};
  auto value = file_.integer(key);
  if (!value) return pass(value);
  if (*value == wanted) return {};
  return fail(ErrorCode::unsupported_model,
              cat("model file ", file_.path(), ": ", key, " is ", *value, " but head_dim is ",
                  wanted, "; only equal values are supported"),
              std::to_string(*value), std::to_string(wanted));
}

Status ConfigReader::sizes() {
  struct Field {
    const char* key;
    uint32_t& out;
  };
  const Field fields[] = {
      {"llama.block_count", config_.n_layers},
      {"llama.context_length", config_.n_positions},
      {"llama.embedding_length", config_.d_model},
      {"llama.feed_forward_length", config_.d_ff},
      {"llama.attention.head_count", config_.n_heads},
  };
  for (const Field& field : fields) {
    auto read = read_u32(field.key, field.out);
    if (!read) return read;
  }
  config_.n_kv_heads = config_.n_heads;
  constexpr const char* kKvHeads = "llama.attention.head_count_kv";
  return file_.has(kKvHeads) ? read_u32(kKvHeads, config_.n_kv_heads) : Status{};
}

Status ConfigReader::head_dim() {
  constexpr const char* kKeyLength = "llama.attention.key_length";
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
  for (const char* key : {"llama.attention.value_length", "llama.rope.dimension_count"}) {
    auto same = must_be(key, config_.head_dim);
    if (!same) return same;
  }
  if (config_.head_dim == 64 || config_.head_dim == 128 || config_.head_dim == 256) return {};
  return fail(ErrorCode::unsupported_model,
              cat("model file ", file_.path(), ": head_dim is ", config_.head_dim,
                  "; supported are 64, 128 and 256"),
              std::to_string(config_.head_dim), "64, 128, 256");
}

Status ConfigReader::floats() {
  auto eps = file_.number("llama.attention.layer_norm_rms_epsilon");
  if (!eps) return pass(eps);
  config_.rms_eps = static_cast<float>(*eps);
  config_.rope_base = 10000;
  constexpr const char* kBase = "llama.rope.freq_base";
  if (!file_.has(kBase)) return {};
  auto base = file_.number(kBase);
  if (!base) return pass(base);
  config_.rope_base = static_cast<float>(*base);
  return {};
}

// The number of tokens is the embedding's rows; the vocabulary and llama.vocab_size must agree with
// it.
Status ConfigReader::vocabulary() {
  const GgufTensor* embedding = file_.tensor("token_embd.weight");
  if (embedding == nullptr) {
    return refuse(ErrorCode::bad_model_file, "tensor token_embd.weight is missing",
                  "token_embd.weight");
  }
  if (embedding->shape[1] > UINT32_MAX) {
    return refuse(ErrorCode::bad_model_file,
                  cat("token_embd.weight has the absurd shape ", shape_text(embedding->shape)),
                  shape_text(embedding->shape));
  }
  config_.n_vocab = static_cast<uint32_t>(embedding->shape[1]);
  uint32_t said = config_.n_vocab;
  constexpr const char* kVocab = "llama.vocab_size";
  if (file_.has(kVocab)) {
    auto read = read_u32(kVocab, said);
    if (!read) return read;
  }
  if (said == config_.n_vocab) return {};
  return refuse(
      ErrorCode::bad_model_file,
      cat("llama.vocab_size is ", said, " but token_embd.weight has ", config_.n_vocab, " rows"),
      std::to_string(said));
}

Result<ModelConfig> ConfigReader::run() {
  auto done = architecture();
  if (done) done = scaling();
  if (done) done = experts();
  if (done) done = sizes();
  if (done) done = head_dim();
  if (done) done = floats();
  if (done) done = vocabulary();
  if (!done) return pass(done);
  config_.rope_interleaved = 1;  // GGUF permutes the rows of q and k of this architecture
  config_.tied_head = file_.tensor("output.weight") == nullptr ? 1 : 0;
  if (const auto problem = check_config(config_)) {
    return refuse(ErrorCode::bad_model_file, *problem, "");
  }
  return config_;
}

}  // namespace

Result<ModelConfig> read_config(const GgufFile& file) { return ConfigReader(file).run(); }

Result<std::string> read_chat_format(const GgufFile& file) {
  constexpr const char* kTemplate = "tokenizer.chat_template";
  std::string_view content;
  if (file.has(kTemplate)) {
    auto text = file.text(kTemplate);
    if (!text) return pass(text);
    content = *text;
  }
  if (content.find("<|im_start|>") != std::string_view::npos &&
      content.find("<|im_end|>") != std::string_view::npos) {
    return "chatml";
  }
  return fail(
      ErrorCode::unsupported_model,
      cat("model file ", file.path(), ": its chat format is ",
          content.empty() ? "not given" : "not ChatML",
          "; only instruct models with the ChatML format (<|im_start|>, <|im_end|>) are supported"),
      printable(content.substr(0, 60)), "chatml");
}

}  // namespace polykv
