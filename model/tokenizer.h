// Text <-> tokens: byte-level or SentencePiece BPE over the image's flat tables (no private
// vocabulary). Token for token equal to Hugging Face `tokenizers`.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/utf8.h"
#include "model/image.h"

namespace polykv {

// A run of text, or the name of one special token such as "<|im_end|>". Special names inside plain
// text stay plain text: a document cannot forge a message border.
struct TextPiece {
  std::string text;
  bool special = false;
};

class Tokenizer {
 public:
  // The image (the tables and what they view) must outlive the tokenizer. Not thread-safe.
  static Result<Tokenizer> create(const ModelImage& image);
  static Result<Tokenizer> create(const TokenizerTables& tables);

  // bad_text if the text is not UTF-8 (with the byte's position).
  Result<std::vector<uint32_t>> encode(std::string_view text) const;
  // Runs of plain text next to each other are one text. unsupported_model names a special token
  // that the vocabulary has not.
  Result<std::vector<uint32_t>> encode(const std::vector<TextPiece>& pieces) const;

  std::string_view bytes_of(uint32_t token) const;  // raw bytes; "" for special tokens
  // The same of an answer's first token: without the space that encoding puts before a text.
  std::string_view first_bytes_of(uint32_t token) const;
  // The text that encode() got, but for bytes without a token, U+2581 read as a space, and NFC.
  std::string decode(std::span<const uint32_t> tokens) const;
  bool is_special(uint32_t token) const;
  std::optional<uint32_t> special_token(std::string_view name) const;

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

 private:
  struct State;
  explicit Tokenizer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace polykv
