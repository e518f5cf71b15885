// A safetensors file, mapped read-only: a length, a JSON table of tensors, their bytes. Every
// offset, shape and type is checked when it is opened.
#pragma once

#include <string>
#include <vector>

#include "model/gguf.h"
#include "model/mapped_file.h"

namespace polykv {

class SafetensorsFile {
 public:
  // bad_model_file with what is wrong; unsupported_model with the type of a tensor that is not F32,
  // F16 or BF16.
  static Result<SafetensorsFile> open(const std::string& path);
  const std::vector<FileTensor>& tensors() const { return tensors_; }  // in file order

 private:
  explicit SafetensorsFile(MappedFile file) : file_(std::move(file)) {}
  MappedFile file_;
  std::vector<std::string> names_;  // what the tensors' names view
  std::vector<FileTensor> tensors_;
};

// The tensors of `file`, whose bytes begin with the length. names receives what their names view.
Result<std::vector<FileTensor>> parse_safetensors(std::span<const std::byte> file,
                                                  const std::string& path,
                                                  std::vector<std::string>& names);

}  // namespace polykv
