// Encoding and decoding over the image's tables.
#include "model/tokenizer.h"

#include "model/token_tables.h"
#include "model/tokenizer_bpe.h"
#include "model/tokenizer_spaces.h"
#include "model/tokenizer_split.h"
#include "model/tokenizer_user.h"
#include "model/unicode_nfc.h"

namespace polykv {

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

struct Tokenizer::State {
  const TokenizerTables& tables;
  UserTokens user_tokens;
  std::optional<Splitter> splitter;  // byte-level
  std::optional<SpacedWords> words;  // SentencePiece
  Bpe bpe;

  Status encode_run(std::string_view run, bool opens, std::vector<uint32_t>& out) {
    if ((tables.flags & kComposed) == 0 || !may_compose(run)) return encode_as_is(run, opens, out);
    auto text = composed(run);
    if (!text) return pass(text);
    return encode_as_is(*text, opens, out);
  }

  Status encode_as_is(std::string_view run, bool opens, std::vector<uint32_t>& out) {
    if (words) {
      words->encode(run, opens, bpe, out);
      return {};
    }
    for (size_t at = 0; at < run.size();) {
      auto bytes = splitter->piece(run, at);
      if (!bytes) return pass(bytes);
      bpe.encode(run.substr(at, *bytes), out);
      at += *bytes;
    }
    return {};
  }

  Status encode(std::string_view text, bool opens, std::vector<uint32_t>& out) {
    size_t at = 0;
    while (const auto user = user_tokens.next(text, at)) {
      auto encoded = encode_run(text.substr(at, user->at - at), opens && at == 0, out);
      if (!encoded) return encoded;
      out.push_back(user->token);
      at = user->at + token_text(tables, user->token).size();
    }
    return encode_run(text.substr(at), opens && at == 0, out);
  }

  Status encode_text(std::string_view text, std::vector<uint32_t>& out) {
    auto fine = check_text(text);
    return fine ? encode(text, out.empty(), out) : fine;
  }
};

Result<Tokenizer> Tokenizer::create(const ModelImage& image) { return create(image.tokenizer()); }

Result<Tokenizer> Tokenizer::create(const TokenizerTables& tables) {
  auto state = std::make_unique<State>(
      State{tables, UserTokens(tables), std::nullopt, std::nullopt, Bpe(tables)});
  if (tables.pre_tokenizer == PreTokenizer::sentencepiece) {
    state->words.emplace(tables);
    return Tokenizer(std::move(state));
  }
  auto splitter = Splitter::create(tables.pre_tokenizer);
  if (!splitter) return pass(splitter);
  state->splitter = std::move(*splitter);
  return Tokenizer(std::move(state));
}

Result<std::vector<uint32_t>> Tokenizer::encode(std::string_view text) const {
  std::vector<uint32_t> out;
  auto encoded = state_->encode_text(text, out);
  if (!encoded) return pass(encoded);
  return out;
}

Result<std::vector<uint32_t>> Tokenizer::encode(const std::vector<TextPiece>& pieces) const {
  std::vector<uint32_t> out;
  std::string joined;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const TextPiece& piece = pieces[i];
    if (!piece.special) {
      const bool more = i + 1 < pieces.size() && !pieces[i + 1].special;
      if (more || !joined.empty()) joined += piece.text;
      if (more) continue;
      auto encoded = state_->encode_text(joined.empty() ? piece.text : joined, out);
      if (!encoded) return pass(encoded);
      joined.clear();
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

std::string_view Tokenizer::first_bytes_of(uint32_t token) const {
  const std::string_view bytes = bytes_of(token);
  const bool plain = !bytes.empty() && state_->tables.kinds[token] != kKindUser;
  return plain && state_->words ? state_->words->without_prefix(bytes, true) : bytes;
}

std::string Tokenizer::decode(std::span<const uint32_t> tokens) const {
  std::string out;
  const TokenizerTables& tables = state_->tables;
  bool begins = true;  // a run of plain text, which may have got a space
  for (const uint32_t token : tokens) {
    const std::string_view bytes = bytes_of(token);
    const bool user = !bytes.empty() && tables.kinds[token] == kKindUser;  // its spaces are its own
    const bool whole = begins && !user && state_->words;
    out += whole ? state_->words->without_prefix(bytes, out.empty()) : bytes;
    begins = bytes.empty() ? begins : user;
  }
  return out;
}

bool Tokenizer::is_special(uint32_t token) const {
  return token < state_->tables.kinds.size() && state_->tables.kinds[token] == kKindSpecial;
}

std::optional<uint32_t> Tokenizer::special_token(std::string_view name) const {
  return find_token(state_->tables, name, TokenClass::special);
}

Tokenizer::Tokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

}  // namespace polykv
