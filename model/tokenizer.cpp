// Encoding and decoding over the image's tables.
#include "model/tokenizer.h"

#include "model/token_tables.h"
#include "model/tokenizer_bpe.h"
#include "model/tokenizer_split.h"

namespace polykv {

struct Tokenizer::State {
  const TokenizerTables& tables;
  Splitter splitter;
  Bpe bpe;

  Status encode(std::string_view text, std::vector<uint32_t>& out) {
    for (size_t at = 0; at < text.size();) {
      auto bytes = splitter.piece(text, at);
      if (!bytes) return pass(bytes);
      bpe.encode(text.substr(at, *bytes), out);
      at += *bytes;
    }
    return {};
  }
};

namespace {

constexpr size_t kTextMax = size_t{1} << 30;  // bytes; BPE counts in 32 bits

Status check_text(std::string_view text) {
  if (text.size() > kTextMax) {
    return fail(ErrorCode::bad_text,
                cat("the text is ", text.size(), " bytes long; at most ", kTextMax),
                std::to_string(text.size()), std::to_string(kTextMax));
  }
  const auto bad_byte = invalid_utf8(text);
  if (!bad_byte) return {};
  return fail(ErrorCode::bad_text,
              cat("the text is not valid UTF-8 at byte ", *bad_byte, "; convert it to UTF-8"),
              std::to_string(*bad_byte));
}

}  // namespace

Result<Tokenizer> Tokenizer::create(const ModelImage& image) {
  auto splitter = Splitter::create();
  if (!splitter) return pass(splitter);
  const TokenizerTables& tables = image.tokenizer();
  return Tokenizer(std::make_unique<State>(State{tables, std::move(*splitter), Bpe(tables)}));
}

Result<std::vector<uint32_t>> Tokenizer::encode(std::string_view text) const {
  auto fine = check_text(text);
  if (!fine) return pass(fine);
  std::vector<uint32_t> out;
  auto encoded = state_->encode(text, out);
  if (!encoded) return pass(encoded);
  return out;
}

Result<std::vector<uint32_t>> Tokenizer::encode(const std::vector<TextPiece>& pieces) const {
  std::vector<uint32_t> out;
  for (const TextPiece& piece : pieces) {
    if (!piece.special) {
      auto tokens = encode(piece.text);
      if (!tokens) return tokens;
      out.insert(out.end(), tokens->begin(), tokens->end());
      continue;
    }
    const auto token = special_token(piece.text);
    if (!token) {
      return fail(ErrorCode::unsupported_model,
                  cat("the model's vocabulary has no special token \"", piece.text, '"'),
                  piece.text);
    }
    out.push_back(*token);
  }
  return out;
}

std::string_view Tokenizer::bytes_of(uint32_t token) const {
  if (token >= state_->tables.kinds.size() || is_special(token)) return {};
  return token_text(state_->tables, token);
}

std::string Tokenizer::decode(std::span<const uint32_t> tokens) const {
  std::string out;
  for (const uint32_t token : tokens) out += bytes_of(token);
  return out;
}

bool Tokenizer::is_special(uint32_t token) const {
  return token < state_->tables.kinds.size() && state_->tables.kinds[token] == kKindSpecial;
}

std::optional<uint32_t> Tokenizer::special_token(std::string_view name) const {
  return find_token(state_->tables, name, true);
}

Tokenizer::Tokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

}  // namespace polykv
