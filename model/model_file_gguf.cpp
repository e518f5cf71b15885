// A GGUF file as a model.
#include "model/model_file.h"

namespace polykv {
namespace {

constexpr std::string_view kRopeFactors = "rope_freqs.weight";

struct RoleName {
  TensorRole role;
  const char* name;
};
constexpr RoleName kNames[] = {
    {TensorRole::embedding, "token_embd.weight"},
    {TensorRole::head, "output.weight"},
    {TensorRole::output_norm, "output_norm.weight"},
    {TensorRole::attn_norm, "attn_norm.weight"},
    {TensorRole::wq, "attn_q.weight"},
    {TensorRole::wk, "attn_k.weight"},
    {TensorRole::wv, "attn_v.weight"},
    {TensorRole::wo, "attn_output.weight"},
    {TensorRole::q_bias, "attn_q.bias"},
    {TensorRole::k_bias, "attn_k.bias"},
    {TensorRole::v_bias, "attn_v.bias"},
    {TensorRole::q_norm, "attn_q_norm.weight"},
    {TensorRole::k_norm, "attn_k_norm.weight"},
    {TensorRole::attn_post_norm, "post_attention_norm.weight"},
    {TensorRole::ffn_norm, "ffn_norm.weight"},
    {TensorRole::ffn_post_norm, "post_ffw_norm.weight"},
    {TensorRole::w_gate, "ffn_gate.weight"},
    {TensorRole::w_up, "ffn_up.weight"},
    {TensorRole::w_down, "ffn_down.weight"},
};

class GgufParameters : public Parameters {
 public:
  GgufParameters(const GgufFile& file, std::string_view architecture)
      : file_(file), architecture_(architecture) {}

  std::string place() const override { return cat("model file ", file_.path()); }
  std::string name_of(std::string_view key) const override { return cat(architecture_, '.', key); }
  bool has(std::string_view key) const override { return file_.has(name_of(key)); }
  Result<uint64_t> integer(std::string_view key) const override {
    return file_.integer(name_of(key));
  }
  Result<double> number(std::string_view key) const override { return file_.number(name_of(key)); }
  Result<bool> flag(std::string_view key) const override { return file_.flag(name_of(key)); }
  Result<std::string_view> text(std::string_view key) const override {
    return file_.text(name_of(key));
  }
  bool is_gguf() const override { return true; }
  std::string_view architecture() const override { return architecture_; }
  uint64_t embedding_rows() const override {
    const FileTensor* embedding = file_.tensor("token_embd.weight");
    return embedding == nullptr ? 0 : embedding->shape[1];
  }
  bool has_head() const override { return file_.tensor("output.weight") != nullptr; }
  Result<std::vector<bool>> windowed_layers() const override;
  Result<std::vector<float>> rope_factors() const override;

 private:
  const GgufFile& file_;
  std::string_view architecture_;
};

Result<std::vector<bool>> GgufParameters::windowed_layers() const {
  const std::string key = name_of("attention.sliding_window_pattern");
  return file_.is_list(key) ? file_.flags(key) : std::vector<bool>{};
}

Result<std::vector<float>> GgufParameters::rope_factors() const {
  const FileTensor* tensor = file_.tensor(kRopeFactors);
  if (tensor == nullptr) return std::vector<float>{};
  if (tensor->type != GgufType::f32 || tensor->n_dims != 1) {
    return fail(
        ErrorCode::bad_model_file,
        cat(place(), ": tensor ", kRopeFactors, " is ", gguf_type_name(tensor->type), " ",
            shape_text(std::span(tensor->shape).first(tensor->n_dims)), "; expected a row of F32"),
        std::string(kRopeFactors));
  }
  std::vector<float> factors(tensor->data.size() / sizeof(float));
  std::memcpy(factors.data(), tensor->data.data(), factors.size() * sizeof(float));
  return factors;
}

class GgufModel : public ModelFile {
 public:
  GgufModel(std::unique_ptr<GgufFile> file, std::string_view architecture)
      : file_(std::move(file)), parameters_(*file_, architecture) {}

  const Parameters& parameters() const override { return parameters_; }
  Result<FileVocab> vocab() const override { return read_gguf_vocab(*file_); }
  Result<std::string> chat_template() const override {
    return optional_text("tokenizer.chat_template");
  }
  Result<FileGeneration> generation() const override { return gguf_generation(*file_); }
  std::string name() const override {
    return std::string(file_->text("general.name").value_or(""));
  }
  std::string name_of(const PlannedTensor& planned) const override;
  const FileTensor* tensor(std::string_view name) const override { return file_->tensor(name); }
  std::vector<std::string_view> tensor_names() const override;
  bool may_ignore(std::string_view name) const override { return name == kRopeFactors; }

 private:
  Result<std::string> optional_text(std::string_view key) const {
    if (!file_->has(key)) return std::string();
    auto text = file_->text(key);
    if (!text) return pass(text);
    return std::string(*text);
  }
  std::unique_ptr<GgufFile> file_;
  GgufParameters parameters_;
};

std::string GgufModel::name_of(const PlannedTensor& planned) const {
  for (const RoleName& known : kNames) {
    if (known.role != planned.role) continue;
    return planned.layer == kNoLayer ? known.name : cat("blk.", planned.layer, '.', known.name);
  }
  return cat("(role ", static_cast<int>(planned.role), ')');
}

std::vector<std::string_view> GgufModel::tensor_names() const {
  std::vector<std::string_view> names;
  for (const FileTensor& tensor : file_->tensors()) names.push_back(tensor.name);
  return names;
}

}  // namespace

Result<std::unique_ptr<ModelFile>> open_gguf_model(const std::string& path) {
  auto file = GgufFile::open(path);
  if (!file) return pass(file);
  auto kept = std::make_unique<GgufFile>(std::move(*file));
  auto architecture = kept->text("general.architecture");
  if (!architecture) return pass(architecture);
  return std::make_unique<GgufModel>(std::move(kept), *architecture);
}

}  // namespace polykv
