// A model on disk, whatever its format: what packing reads. Everything is checked when it is opened
// or asked for; tensors are views into the mapped files.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "model/generation.h"
#include "model/gguf.h"
#include "model/image_plan.h"
#include "model/image_vocab.h"
#include "model/parameters.h"

namespace polykv {

class ModelFile {
 public:
  // A GGUF file, or a folder with config.json, tokenizer.json and safetensors (a file of it names
  // the folder, too). bad_model_file or unsupported_model.
  static Result<std::unique_ptr<ModelFile>> open(const std::string& path);
  // Every file that open() and the functions below may read, sorted: what tells whether a model has
  // changed.
  static Result<std::vector<std::string>> files(const std::string& path);
  virtual ~ModelFile() = default;

  virtual const Parameters& parameters() const = 0;
  virtual Result<FileVocab> vocab() const = 0;
  virtual Result<std::string> chat_template() const = 0;  // "" if there is none
  virtual Result<FileGeneration> generation() const = 0;
  virtual std::string name() const = 0;  // for people; "" if there is none

  // The name of a tensor in this format, and the tensor (nullptr if there is none).
  virtual std::string name_of(const PlannedTensor& planned) const = 0;
  virtual const FileTensor* tensor(std::string_view name) const = 0;
  virtual std::vector<std::string_view> tensor_names() const = 0;
  // Of a tensor that no plan asks for: it is known to say nothing more (RoPE's frequencies).
  virtual bool may_ignore(std::string_view name) const = 0;
};

Result<std::unique_ptr<ModelFile>> open_gguf_model(const std::string& path);
Result<std::unique_ptr<ModelFile>> open_hub_model(const std::string& folder);
Result<std::vector<std::string>> hub_files(const std::string& folder);

}  // namespace polykv
