// A GGUF model file (versions 2 and 3), mapped read-only. Nothing in it is trusted: every count,
// length, offset and type is checked when the file is opened, so that what this class hands out is
// safe to use.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/result.h"

namespace polykv {

enum class GgufType : uint32_t {  // those that this build can run
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  bf16 = 30,
};
const char* gguf_type_name(GgufType type);

struct FileTensor {
  std::string_view name;
  GgufType type = GgufType::f32;
  uint32_t n_dims = 0;
  std::array<uint64_t, 4> shape{};  // innermost first; 1 beyond n_dims
  std::span<const std::byte> data;  // in the mapping, or the reader's own
  bool is_mapped = true;
};

// "[576, 192]", innermost first.
std::string shape_text(std::span<const uint64_t> shape);
// Text of a file made fit for a message: printable, one line, short.
std::string printable(std::string_view text);

class GgufFile {
 public:
  // bad_model_file with the place and what was expected; unsupported_model with the name of the
  // version or tensor type. The file must not be cut short while it is in use.
  static Result<GgufFile> open(const std::string& path);

  const std::string& path() const;
  bool has(std::string_view key) const;
  // bad_model_file if the key is missing or of another kind. Views are valid as long as the file
  // object.
  Result<std::string_view> text(std::string_view key) const;
  Result<uint64_t> integer(std::string_view key) const;
  Result<double> number(std::string_view key) const;
  Result<bool> flag(std::string_view key) const;
  Result<std::vector<std::string_view>> texts(std::string_view key) const;
  Result<std::vector<int64_t>> integers(std::string_view key) const;
  Result<std::vector<double>> numbers(std::string_view key) const;

  bool is_list(std::string_view key) const;
  Result<std::vector<bool>> flags(std::string_view key) const;  // or a list of whole numbers

  const FileTensor* tensor(std::string_view name) const;  // nullptr if there is none
  std::span<const FileTensor> tensors() const;            // in file order

  GgufFile(GgufFile&&) noexcept;
  GgufFile& operator=(GgufFile&&) noexcept;
  ~GgufFile();

 private:
  struct State;
  explicit GgufFile(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace polykv
