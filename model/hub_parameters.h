// config.json of a Hugging Face checkpoint as hyperparameters.
#pragma once

#include "model/gguf.h"
#include "model/json.h"
#include "model/parameters.h"

namespace polykv {

class HubParameters : public Parameters {
 public:
  // config: of the text model. embedding: nullptr if the checkpoint has none. Both must outlive
  // this.
  HubParameters(std::string place, const Json& config, const FileTensor* embedding, bool has_head)
      : place_(std::move(place)), config_(config), embedding_(embedding), has_head_(has_head) {}

  // What a configuration may say that no family here can do: unsupported_model names it.
  // all: the whole config.json, of which `config` may be a part.
  Status refuse_others(const Json& all) const;

  std::string place() const override { return place_; }
  std::string name_of(std::string_view key) const override;
  bool has(std::string_view key) const override { return find(key) != nullptr; }
  Result<uint64_t> integer(std::string_view key) const override;
  Result<double> number(std::string_view key) const override;
  Result<bool> flag(std::string_view key) const override;
  Result<std::string_view> text(std::string_view key) const override;
  bool is_gguf() const override { return false; }
  std::string_view architecture() const override { return config_.text_of("model_type"); }
  uint64_t embedding_rows() const override { return embedding_ ? embedding_->shape[1] : 0; }
  bool has_head() const override {
    const Json* tied = find("tie_word_embeddings");
    return has_head_ && (tied == nullptr || tied->flag() == nullptr || !*tied->flag());
  }
  Result<std::vector<bool>> windowed_layers() const override;
  Result<std::vector<float>> rope_factors() const override { return std::vector<float>{}; }

 private:
  const Json* find(std::string_view key) const;
  std::unexpected<Error> bad(std::string_view key, const std::string& what) const;

  std::string place_;
  const Json& config_;
  const FileTensor* embedding_;
  bool has_head_;
};

}  // namespace polykv
