// A model's hyperparameters, whatever the format of the file that says them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/result.h"

namespace polykv {

// By the names of GGUF, without the architecture before them: "block_count". Results view the file.
class Parameters {
 public:
  virtual ~Parameters() = default;
  virtual std::string place() const = 0;  // "model file x.gguf", for messages
  // The parameter's name in this file: "llama.block_count", "num_hidden_layers".
  virtual std::string name_of(std::string_view key) const = 0;
  virtual bool has(std::string_view key) const = 0;
  // bad_model_file if the key is missing or of another kind.
  virtual Result<uint64_t> integer(std::string_view key) const = 0;
  virtual Result<double> number(std::string_view key) const = 0;
  virtual Result<bool> flag(std::string_view key) const = 0;
  virtual Result<std::string_view> text(std::string_view key) const = 0;

  virtual bool is_gguf() const = 0;
  virtual std::string_view architecture() const = 0;  // the family's name in this format
  virtual uint64_t embedding_rows() const = 0;        // 0: there is no embedding
  virtual bool has_head() const = 0;                  // an output head of its own
  // For each layer whether it has a window, where a file lists it; else empty.
  virtual Result<std::vector<bool>> windowed_layers() const = 0;
  // By what each frequency is divided, where a file says it like that; else empty.
  virtual Result<std::vector<float>> rope_factors() const = 0;
};

}  // namespace polykv
