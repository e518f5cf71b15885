// Cuts text into the pieces within which byte-level BPE merges, as the model's pre-tokenizer does.
#pragma once

#include <memory>
#include <string_view>

#include "ipc/result.h"
#include "model/pre_tokenizer.h"

namespace polykv {

class Splitter {
 public:
  // `kind` is one of the byte-level pre-tokenizers.
  static Result<Splitter> create(PreTokenizer kind);

  // Bytes of the piece that begins at `at` (< text.size()); text must be valid UTF-8. Never 0.
  Result<size_t> piece(std::string_view text, size_t at) const;

  Splitter(Splitter&&) noexcept;
  Splitter& operator=(Splitter&&) noexcept;
  ~Splitter();

 private:
  struct State;
  explicit Splitter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace polykv
