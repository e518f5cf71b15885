// A Hugging Face checkpoint as a model: a folder with config.json, tokenizer.json and safetensors.
#include <algorithm>
#include <bit>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>

#include "ipc/half.h"
#include "model/hub_parameters.h"
#include "model/hub_vocab.h"
#include "model/model_file.h"
#include "model/safetensors.h"

namespace polykv {
namespace {

namespace fs = std::filesystem;

constexpr const char* kGeneration = "generation_config.json";

struct RoleName {
  TensorRole role;
  const char* name;
};
constexpr RoleName kNames[] = {
    {TensorRole::embedding, "embed_tokens.weight"},
    {TensorRole::output_norm, "norm.weight"},
    {TensorRole::attn_norm, "input_layernorm.weight"},
    {TensorRole::wq, "self_attn.q_proj.weight"},
    {TensorRole::wk, "self_attn.k_proj.weight"},
    {TensorRole::wv, "self_attn.v_proj.weight"},
    {TensorRole::wo, "self_attn.o_proj.weight"},
    {TensorRole::q_bias, "self_attn.q_proj.bias"},
    {TensorRole::k_bias, "self_attn.k_proj.bias"},
    {TensorRole::v_bias, "self_attn.v_proj.bias"},
    {TensorRole::q_norm, "self_attn.q_norm.weight"},
    {TensorRole::k_norm, "self_attn.k_norm.weight"},
    {TensorRole::ffn_norm, "post_attention_layernorm.weight"},
    {TensorRole::w_gate, "mlp.gate_proj.weight"},
    {TensorRole::w_up, "mlp.up_proj.weight"},
    {TensorRole::w_down, "mlp.down_proj.weight"},
};
// Where a norm stands behind each block, too.
constexpr RoleName kGemmaNames[] = {
    {TensorRole::attn_post_norm, "post_attention_layernorm.weight"},
    {TensorRole::ffn_norm, "pre_feedforward_layernorm.weight"},
    {TensorRole::ffn_post_norm, "post_feedforward_layernorm.weight"},
};

// Where the tensors of the text model are: by itself, or within one that sees images, too.
struct Names {
  std::string_view body, head;
};
constexpr Names kAlone{"model.", "lm_head.weight"};
constexpr Names kWithin{"language_model.model.", "language_model.lm_head.weight"};

// Numbers of F32, F16 or BF16.
std::vector<float> widened(const FileTensor& tensor) {
  const size_t each = tensor.type == GgufType::f32 ? 4 : 2;
  std::vector<float> out(tensor.data.size() / each);
  for (size_t i = 0; i < out.size(); ++i) {
    uint32_t bits = 0;
    std::memcpy(&bits, tensor.data.data() + i * each, each);
    if (tensor.type == GgufType::bf16) bits <<= 16;
    out[i] = tensor.type == GgufType::f16 ? half_to_float(static_cast<uint16_t>(bits))
                                          : std::bit_cast<float>(bits);
  }
  return out;
}

Result<Json> read_json(const fs::path& path) {
  auto file = MappedFile::open(path);
  if (!file) return pass(file);
  const auto bytes = file->bytes();
  return Json::parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                     cat("model file ", path.string()));
}

// The folder's files of tensors: those that the index names, or the one there is.
Result<std::vector<fs::path>> shards(const fs::path& folder) {
  const fs::path index = folder / "model.safetensors.index.json";
  if (!fs::exists(index)) return std::vector{folder / "model.safetensors"};
  auto json = read_json(index);
  if (!json) return pass(json);
  const Json* map = json->find("weight_map");
  std::set<std::string> names;
  if (map != nullptr && map->fields() != nullptr) {
    for (const auto& [tensor, file] : *map->fields()) {
      const std::string name = file.text() == nullptr ? "" : *file.text();
      if (name.empty() || fs::path(name).filename() != name) {
        return fail(ErrorCode::bad_model_file,
                    cat("model file ", index.string(), ": tensor ", printable(tensor),
                        " is not in a file of this folder"),
                    printable(tensor));
      }
      names.insert(name);
    }
  }
  std::vector<fs::path> out;
  for (const std::string& name : names) out.push_back(folder / name);
  if (!out.empty()) return out;
  return fail(ErrorCode::bad_model_file,
              cat("model file ", index.string(), ": its weight_map names no file"), "weight_map");
}

class HubModel : public ModelFile {
 public:
  explicit HubModel(fs::path folder) : folder_(std::move(folder)) {}
  Status read();

  const Parameters& parameters() const override { return *parameters_; }
  Result<FileVocab> vocab() const override;
  Result<std::string> chat_template() const override;
  Result<FileGeneration> generation() const override {
    return hub_generation(generation_, cat("model file ", (folder_ / kGeneration).string()));
  }
  std::string name() const override { return folder_.filename().string(); }
  std::string name_of(const PlannedTensor& planned) const override;
  const FileTensor* tensor(std::string_view name) const override {
    const auto found = tensors_.find(name);
    return found == tensors_.end() ? nullptr : &found->second;
  }
  std::vector<std::string_view> tensor_names() const override;
  // Old checkpoints list RoPE's frequencies; tied ones may list the head, which is the embedding.
  bool may_ignore(std::string_view name) const override {
    const bool of_images =
        name.starts_with("vision_tower.") || name.starts_with("multi_modal_projector.");
    return name.ends_with("rotary_emb.inv_freq") || (of_images && text_ != &config_) ||
           (name == names_.head && !parameters_->has_head());
  }

 private:
  Status read_tensors();
  void find_text_model();
  bool is_gemma() const { return parameters_->architecture().starts_with("gemma"); }
  void add_one_to_norms();
  std::vector<uint32_t> token_ids(const char* key) const;

  fs::path folder_;
  Json config_, tokenizer_, tokenizer_config_, generation_;
  const Json* text_ = &config_;  // the part of config_ that is the text model's
  Names names_ = kAlone;
  std::vector<std::vector<float>> norms_;  // those that tensors_ has otherwise than the file
  std::vector<SafetensorsFile> files_;
  std::map<std::string_view, FileTensor> tensors_;
  std::optional<HubParameters> parameters_;
  mutable std::optional<HubVocab> vocab_;
};

Status HubModel::read_tensors() {
  auto paths = shards(folder_);
  if (!paths) return pass(paths);
  for (const fs::path& path : *paths) {
    auto file = SafetensorsFile::open(path);
    if (!file) return pass(file);
    for (const FileTensor& tensor : file->tensors()) {
      if (tensors_.emplace(tensor.name, tensor).second) continue;
      return fail(ErrorCode::bad_model_file,
                  cat("model file ", path.string(), ": tensor ", printable(tensor.name),
                      " is in another file, too"),
                  printable(tensor.name));
    }
    files_.push_back(std::move(*file));
  }
  return {};
}

Status HubModel::read() {
  struct Part {
    const char* name;
    Json& json;
    bool needed;
  };
  for (const Part& part :
       {Part{"config.json", config_, true}, Part{"tokenizer.json", tokenizer_, true},
        Part{"tokenizer_config.json", tokenizer_config_, false},
        Part{kGeneration, generation_, false}}) {
    if (!part.needed && !fs::exists(folder_ / part.name)) continue;
    auto json = read_json(folder_ / part.name);
    if (!json) return pass(json);
    part.json = std::move(*json);
  }
  auto done = read_tensors();
  if (!done) return done;
  find_text_model();
  parameters_.emplace(cat("model file ", folder_.string()), *text_,
                      tensor(cat(names_.body, "embed_tokens.weight")),
                      tensor(names_.head) != nullptr);
  done = parameters_->refuse_others(config_);
  if (done && is_gemma()) add_one_to_norms();
  return done;
}

// Gemma 3 that sees images has the text model's part within its own configuration.
void HubModel::find_text_model() {
  const Json* part = config_.find("text_config");
  if (config_.text_of("model_type") != "gemma3" || part == nullptr) return;
  text_ = part;
  names_ = kWithin;
}

// Gemma's checkpoints hold what its norms multiply by, less 1. Numbers that are no norm of this
// model stay: the plan refuses them.
void HubModel::add_one_to_norms() {
  for (auto& [name, tensor] : tensors_) {
    const bool is_norm = name.starts_with(names_.body) && name.ends_with("norm.weight");
    if (!is_norm || tensor.n_dims != 1) continue;
    std::vector<float>& norm = norms_.emplace_back(widened(tensor));
    for (float& x : norm) x += 1;
    tensor.type = GgufType::f32;
    tensor.data = std::as_bytes(std::span(norm));
    tensor.is_mapped = false;
  }
}

// generation_config.json's tokens, or config.json's: one, or a list.
std::vector<uint32_t> HubModel::token_ids(const char* key) const {
  std::vector<uint32_t> out;
  const auto add = [&](const Json& id) {
    const double* number = id.number();
    if (number != nullptr && *number >= 0 && *number < kNoToken) {
      out.push_back(static_cast<uint32_t>(*number));
    }
  };
  for (const Json* json : {&generation_, &config_}) {
    const Json* said = out.empty() ? json->find(key) : nullptr;
    if (said == nullptr) continue;
    add(*said);
    if (said->list() != nullptr) std::ranges::for_each(*said->list(), add);
  }
  return out;
}

Result<FileVocab> HubModel::vocab() const {
  const auto rows = static_cast<uint32_t>(parameters_->embedding_rows());
  auto read = read_hub_vocab(tokenizer_, rows, parameters_->place());
  if (!read) return pass(read);
  vocab_ = std::move(*read);
  const auto bos = token_ids("bos_token_id"), eos = token_ids("eos_token_id");
  if (!bos.empty()) vocab_->vocab.bos = bos.front();
  if (!eos.empty()) {
    vocab_->vocab.eos = eos.front();
    vocab_->vocab.ends.assign(eos.begin() + 1, eos.end());
  }
  return vocab_->vocab;
}

Result<std::string> HubModel::chat_template() const {
  const fs::path own = folder_ / "chat_template.jinja";
  if (fs::exists(own)) {
    auto file = MappedFile::open(own);
    if (!file) return pass(file);
    const auto bytes = file->bytes();
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  const Json* found = tokenizer_config_.find("chat_template");
  if (found != nullptr && found->list() != nullptr && !found->list()->empty()) {
    return std::string(found->list()->front().text_of("template"));
  }
  return std::string(tokenizer_config_.text_of("chat_template"));
}

std::string HubModel::name_of(const PlannedTensor& planned) const {
  if (planned.role == TensorRole::head) return std::string(names_.head);
  const auto name_in = [&](std::span<const RoleName> names) -> std::string {
    for (const RoleName& known : names) {
      if (known.role != planned.role) continue;
      return planned.layer == kNoLayer
                 ? cat(names_.body, known.name)
                 : cat(names_.body, "layers.", planned.layer, '.', known.name);
    }
    return "";
  };
  std::string name = is_gemma() ? name_in(kGemmaNames) : "";
  if (name.empty()) name = name_in(kNames);
  return name.empty() ? cat("(role ", static_cast<int>(planned.role), ')') : name;
}

std::vector<std::string_view> HubModel::tensor_names() const {
  std::vector<std::string_view> names;
  for (const auto& [name, tensor] : tensors_) names.push_back(name);
  return names;
}

}  // namespace

// By their endings, so that a file which is not there yet counts once it is; and what an index
// names otherwise.
Result<std::vector<std::string>> hub_files(const std::string& folder) {
  auto tensors = shards(folder);
  if (!tensors) return pass(tensors);
  std::set<std::string> names;
  for (const fs::path& path : *tensors) names.insert(path.string());
  std::error_code unreadable;
  for (fs::directory_iterator entry(folder, unreadable), end; !unreadable && entry != end;
       entry.increment(unreadable)) {
    const std::string ending = entry->path().extension().string();
    if (ending == ".json" || ending == ".jinja" || ending == ".safetensors") {
      names.insert(entry->path().string());
    }
  }
  return std::vector<std::string>(names.begin(), names.end());
}

Result<std::unique_ptr<ModelFile>> open_hub_model(const std::string& folder) {
  auto model = std::make_unique<HubModel>(folder);
  auto done = model->read();
  if (!done) return pass(done);
  return model;
}

}  // namespace polykv
