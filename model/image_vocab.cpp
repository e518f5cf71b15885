// Tokens and merges as flat tables with their hash indices.
#include "model/image_vocab.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "model/image_format.h"
#include "model/token_tables.h"
#include "model/tokenizer_spaces.h"

namespace polykv {
namespace {

constexpr uint16_t kNoByte = 256;
using Alphabet = std::array<uint16_t, 324>;

// GPT-2 writes a byte as a visible character: printable Latin-1 as itself, the other 68 from U+0100
// on. The inverse: character -> byte.
Alphabet byte_alphabet() {
  Alphabet bytes;
  bytes.fill(kNoByte);
  uint16_t next = 256;
  for (uint16_t b = 0; b < 256; ++b) {
    const bool visible = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    bytes[visible ? b : next++] = b;
  }
  return bytes;
}

// One- and two-byte UTF-8 is all that the alphabet uses.
std::optional<std::string> decode_bytes(std::string_view text, const Alphabet& alphabet) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    uint32_t code = static_cast<unsigned char>(text[i]);
    if (code >= 0x80) {
      if ((code & 0xe0) != 0xc0 || i + 1 == text.size()) return std::nullopt;
      code = (code & 0x1f) << 6 | (static_cast<unsigned char>(text[++i]) & 0x3f);
    }
    if (code >= alphabet.size() || alphabet[code] == kNoByte) return std::nullopt;
    out += static_cast<char>(alphabet[code]);
  }
  return out;
}

// "<0x0A>"
std::optional<std::string> decode_byte_name(std::string_view text) {
  unsigned byte = 0;
  const bool form = text.size() == 6 && text.starts_with("<0x") && text.ends_with('>');
  if (!form) return std::nullopt;
  const auto parsed = std::from_chars(text.data() + 3, text.data() + 5, byte, 16);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + 5) return std::nullopt;
  return std::string(1, static_cast<char>(byte));
}

class VocabBuilder {
 public:
  explicit VocabBuilder(const FileVocab& vocab) : vocab_(vocab), alphabet_(byte_alphabet()) {}
  Result<VocabTables> run();

 private:
  std::unexpected<Error> bad(const std::string& what, std::string value) const {
    return fail(ErrorCode::bad_model_file, cat("model file ", vocab_.path, ": ", what),
                std::move(value));
  }
  bool sentencepiece() const { return vocab_.pre_tokenizer == PreTokenizer::sentencepiece; }
  std::optional<std::string> plain(std::string_view text) const;
  std::optional<std::string> bytes_of(std::string_view text, uint8_t kind) const;
  Status tokens();
  Status add_token(std::string_view text, uint8_t kind, size_t token);
  Status index_tokens();
  Status check_bytes() const;
  Status merges();
  Status add_merge(const FileVocab::MergeText& text, size_t index);
  Status token_id(const char* what, uint32_t id, uint32_t& out) const;
  Status ends();

  const FileVocab& vocab_;
  Alphabet alphabet_;
  VocabTables out_{};
};

std::optional<std::string> VocabBuilder::plain(std::string_view text) const {
  return sentencepiece() ? marks_to_spaces(text) : decode_bytes(text, alphabet_);
}

std::optional<std::string> VocabBuilder::bytes_of(std::string_view text, uint8_t kind) const {
  if (kind == kKindNormal) return plain(text);
  return kind == kKindByte ? decode_byte_name(text) : std::string(text);
}

Status VocabBuilder::add_token(std::string_view text, uint8_t kind, size_t token) {
  constexpr size_t kTextsMax = size_t{1} << 30;
  if (text.size() > kTokenBytesMax) {
    return bad(cat("token ", token, " is ", text.size(), " bytes long; at most ", kTokenBytesMax),
               std::to_string(text.size()));
  }
  const auto bytes = bytes_of(text, kind);
  if (!bytes) {
    return bad(cat("token ", token, ", ", printable(text),
                   kind == kKindByte ? ", is not the name of a byte, as <0x0A> is"
                                     : ", is not in the byte-level alphabet"),
               printable(text));
  }
  out_.texts += *bytes;
  if (text.empty() || out_.texts.size() > kTextsMax) {
    return bad(
        cat("token ", token, " is empty or the vocabulary is longer than ", kTextsMax, " bytes"),
        std::to_string(token));
  }
  out_.kinds.push_back(kind);
  out_.text_offsets.push_back(static_cast<uint32_t>(out_.texts.size()));
  return {};
}

Status VocabBuilder::tokens() {
  const size_t n_tokens = vocab_.tokens.size(), n_kinds = vocab_.kinds.size();
  if (n_tokens != n_kinds || n_tokens < 2 || n_tokens > (1U << 22)) {
    return bad(cat("has ", n_tokens, " tokens and ", n_kinds,
                   " token types; expected as many of each, 2 to ", 1U << 22),
               std::to_string(n_tokens));
  }
  out_.text_offsets.push_back(0);
  for (size_t i = 0; i < n_tokens; ++i) {
    auto added = add_token(vocab_.tokens[i], vocab_.kinds[i], i);
    if (!added) return added;
  }
  return index_tokens();
}

Status VocabBuilder::index_tokens() {
  out_.text_slots.assign(slots_for(out_.kinds.size()), 0);
  const size_t n_slots = out_.text_slots.size();
  for (uint32_t token = 0; token < out_.kinds.size(); ++token) {
    const std::string_view text = token_text(out_.view(), token);
    if (const auto other = find_token(out_.view(), text, class_of(out_.kinds[token]))) {
      return bad(cat("tokens ", *other, " and ", token, " are both ", printable(text)),
                 printable(text));
    }
    size_t slot = text_slot(text, n_slots);
    while (out_.text_slots[slot] != 0) slot = (slot + 1) & (n_slots - 1);
    out_.text_slots[slot] = token + 1;
  }
  return {};
}

// SentencePiece: every character must be writable, an ASCII one perhaps by a token of its own.
Status VocabBuilder::check_bytes() const {
  if (!sentencepiece()) return {};
  for (unsigned i = 0; i < 256; ++i) {
    const char byte = static_cast<char>(i);
    if (find_token(out_.view(), {&byte, 1}, TokenClass::byte)) continue;
    if (i < 0x80 && find_token(out_.view(), {&byte, 1}, TokenClass::plain)) continue;
    return fail(ErrorCode::unsupported_model,
                cat("model file ", vocab_.path, ": its vocabulary has no token for the byte ", i,
                    "; only SentencePiece vocabularies with all 256 bytes are supported"),
                std::to_string(i));
  }
  return {};
}

Status VocabBuilder::add_merge(const FileVocab::MergeText& text, size_t index) {
  std::optional<uint32_t> parts[3];
  const auto left = plain(text.left), right = plain(text.right);
  if (left && right) {
    parts[0] = find_token(out_.view(), *left, TokenClass::plain);
    parts[1] = find_token(out_.view(), *right, TokenClass::plain);
    parts[2] = find_token(out_.view(), *left + *right, TokenClass::plain);
  }
  const auto shown = [&] { return printable(cat(text.left, ' ', text.right)); };
  if (!parts[0] || !parts[1] || !parts[2]) {
    return bad(cat("merge ", index, ", ", shown(), ", is not two tokens that make a third"),
               shown());
  }
  if (find_merge(out_.view(), *parts[0], *parts[1])) {
    return bad(cat("merge ", index, ", ", shown(), ", appears twice"), shown());
  }
  for (const auto& part : parts) out_.merges.push_back(*part);
  size_t slot = merge_slot(*parts[0], *parts[1], out_.merge_slots.size());
  while (out_.merge_slots[slot] != 0) slot = (slot + 1) & (out_.merge_slots.size() - 1);
  out_.merge_slots[slot] = static_cast<uint32_t>(index + 1);
  return {};
}

Status VocabBuilder::merges() {
  constexpr size_t kMergesMax = size_t{1} << 22;
  const size_t n_merges = vocab_.merges.size();
  if (n_merges > kMergesMax) {
    return bad(cat("has ", n_merges, " merges; at most ", kMergesMax), std::to_string(n_merges));
  }
  out_.merge_slots.assign(slots_for(n_merges), 0);
  out_.merges.reserve(n_merges * 3);
  for (size_t i = 0; i < n_merges; ++i) {
    auto added = add_merge(vocab_.merges[i], i);
    if (!added) return added;
  }
  return {};
}

Status VocabBuilder::token_id(const char* what, uint32_t id, uint32_t& out) const {
  out = id;
  if (id == kNoToken || id < out_.kinds.size()) return {};
  return bad(cat(what, " is ", id, " but there are only ", out_.kinds.size(), " tokens"),
             std::to_string(id));
}

// In the file's order, each once.
Status VocabBuilder::ends() {
  for (const uint32_t id : vocab_.ends) {
    uint32_t end = kNoToken;
    if (auto fine = token_id("an end token", id, end); !fine) return fine;
    const bool known = end == kNoToken || end == out_.eos || std::ranges::count(out_.ends, end) > 0;
    if (!known) out_.ends.push_back(end);
  }
  if (out_.ends.size() <= kEndsMax) return {};
  return bad(cat("names ", out_.ends.size(), " end tokens beside the first; at most ", kEndsMax),
             std::to_string(out_.ends.size()));
}

Result<VocabTables> VocabBuilder::run() {
  out_.pre_tokenizer = vocab_.pre_tokenizer;
  out_.flags = vocab_.flags;
  out_.bos = out_.eos = kNoToken;
  auto done = tokens();
  if (done) done = check_bytes();
  if (done) done = merges();
  if (done) done = token_id("the token bos_token_id", vocab_.bos, out_.bos);
  if (done) done = token_id("the token eos_token_id", vocab_.eos, out_.eos);
  if (done) done = ends();
  if (!done) return pass(done);
  return std::move(out_);
}

}  // namespace

TokenizerTables VocabTables::view() const {
  return {text_offsets, texts, kinds,         text_slots, merge_slots, merges,
          bos,          eos,   pre_tokenizer, flags,      ends};
}

Result<VocabTables> build_vocab(const FileVocab& vocab) { return VocabBuilder(vocab).run(); }

}  // namespace polykv
