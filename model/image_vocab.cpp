// Reads tokenizer.ggml.* of a GGUF file: byte-level BPE with the smollm pre-tokenizer.
#include "model/image_vocab.h"

#include <array>
#include <optional>

#include "model/image_format.h"
#include "model/token_tables.h"

namespace polykv {
namespace {

constexpr uint16_t kNoByte = 256;

// GPT-2 writes a byte as a visible character: printable Latin-1 as itself, the other 68 from U+0100
// on. The inverse: character -> byte.
std::array<uint16_t, 324> byte_alphabet() {
  std::array<uint16_t, 324> bytes;
  bytes.fill(kNoByte);
  uint16_t next = 256;
  for (uint16_t b = 0; b < 256; ++b) {
    const bool visible = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
    bytes[visible ? b : next++] = b;
  }
  return bytes;
}

// One- and two-byte UTF-8 is all that the alphabet uses.
std::optional<std::string> decode_bytes(std::string_view text,
                                        const std::array<uint16_t, 324>& alphabet) {
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

class VocabReader {
 public:
  explicit VocabReader(const GgufFile& file) : file_(file), alphabet_(byte_alphabet()) {}
  Result<VocabTables> run();

 private:
  std::unexpected<Error> bad(const std::string& what, std::string value) const {
    return fail(ErrorCode::bad_model_file, cat("model file ", file_.path(), ": ", what),
                std::move(value));
  }
  Status check_kind() const;
  Status check_named(const char* key, std::string_view wanted) const;
  Result<uint8_t> kind_of(int64_t type, size_t token) const;
  Status tokens();
  Status add_token(std::string_view text, uint8_t kind, size_t token);
  Status index_tokens();
  Status merges();
  Status add_merge(std::string_view text, size_t index);
  Result<uint32_t> token_id(const char* key) const;

  const GgufFile& file_;
  std::array<uint16_t, 324> alphabet_;
  VocabTables out_{};
};

Status VocabReader::check_named(const char* key, std::string_view wanted) const {
  auto name = file_.text(key);
  if (!name) return pass(name);
  if (*name == wanted) return {};
  return fail(ErrorCode::unsupported_model,
              cat("model file ", file_.path(), ": ", key, " is ", printable(*name),
                  "; this build supports only \"", wanted, '"'),
              printable(*name), std::string(wanted));
}

Status VocabReader::check_kind() const {
  auto checked = check_named("tokenizer.ggml.model", "gpt2");
  if (checked) checked = check_named("tokenizer.ggml.pre", "smollm");
  if (!checked) return checked;
  constexpr const char* kAddBos = "tokenizer.ggml.add_bos_token";
  if (!file_.has(kAddBos)) return {};
  auto add_bos = file_.flag(kAddBos);
  if (!add_bos) return pass(add_bos);
  if (!*add_bos) return {};
  return fail(
      ErrorCode::unsupported_model,
      cat("model file ", file_.path(), ": ", kAddBos, " is true; this build adds no such token"),
      "true", "false");
}

// GGUF: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. What plain text must
// never produce is special.
Result<uint8_t> VocabReader::kind_of(int64_t type, size_t token) const {
  if (type == 1) return kKindNormal;
  if (type == 4) return kKindUser;
  if (type == 2 || type == 3 || type == 5) return kKindSpecial;
  return bad(cat("token ", token, " has the type ", type, "; expected 1 to 5"),
             std::to_string(type));
}

Status VocabReader::add_token(std::string_view text, uint8_t kind, size_t token) {
  constexpr size_t kTextsMax = size_t{1} << 30;
  if (kind == kKindNormal) {
    const auto bytes = decode_bytes(text, alphabet_);
    if (!bytes) {
      return bad(cat("token ", token, ", ", printable(text), ", is not in the byte-level alphabet"),
                 printable(text));
    }
    out_.texts += *bytes;
  } else {
    out_.texts += text;
  }
  if (text.empty() || out_.texts.size() > kTextsMax) {
    return bad(
        cat("token ", token, " is empty or the vocabulary is longer than ", kTextsMax, " bytes"),
        std::to_string(token));
  }
  out_.kinds.push_back(kind);
  out_.text_offsets.push_back(static_cast<uint32_t>(out_.texts.size()));
  return {};
}

Status VocabReader::tokens() {
  auto texts = file_.texts("tokenizer.ggml.tokens");
  if (!texts) return pass(texts);
  auto types = file_.integers("tokenizer.ggml.token_type");
  if (!types) return pass(types);
  if (texts->size() != types->size() || texts->size() < 2 || texts->size() > (1U << 22)) {
    return bad(cat("has ", texts->size(), " tokens and ", types->size(),
                   " token types; expected as many of each, 2 to ", 1U << 22),
               std::to_string(texts->size()));
  }
  out_.text_offsets.push_back(0);
  for (size_t i = 0; i < texts->size(); ++i) {
    auto kind = kind_of((*types)[i], i);
    if (!kind) return pass(kind);
    auto added = add_token((*texts)[i], *kind, i);
    if (!added) return added;
  }
  return index_tokens();
}

Status VocabReader::index_tokens() {
  out_.text_slots.assign(slots_for(out_.kinds.size()), 0);
  const size_t n_slots = out_.text_slots.size();
  for (uint32_t token = 0; token < out_.kinds.size(); ++token) {
    const std::string_view text = token_text(out_.view(), token);
    const bool special = out_.kinds[token] == kKindSpecial;
    if (const auto other = find_token(out_.view(), text, special)) {
      return bad(cat("tokens ", *other, " and ", token, " are both ", printable(text)),
                 printable(text));
    }
    size_t slot = text_slot(text, n_slots);
    while (out_.text_slots[slot] != 0) slot = (slot + 1) & (n_slots - 1);
    out_.text_slots[slot] = token + 1;
  }
  return {};
}

Status VocabReader::add_merge(std::string_view text, size_t index) {
  const size_t space = text.find(' ');
  std::optional<uint32_t> parts[3];
  if (space != std::string_view::npos) {
    const auto left = decode_bytes(text.substr(0, space), alphabet_);
    const auto right = decode_bytes(text.substr(space + 1), alphabet_);
    if (left && right) {
      parts[0] = find_token(out_.view(), *left, false);
      parts[1] = find_token(out_.view(), *right, false);
      parts[2] = find_token(out_.view(), *left + *right, false);
    }
  }
  if (!parts[0] || !parts[1] || !parts[2]) {
    return bad(cat("merge ", index, ", ", printable(text),
                   ", is not two tokens, with one space between, that make a third"),
               printable(text));
  }
  if (find_merge(out_.view(), *parts[0], *parts[1])) {
    return bad(cat("merge ", index, ", ", printable(text), ", appears twice"), printable(text));
  }
  for (const auto& part : parts) out_.merges.push_back(*part);
  size_t slot = merge_slot(*parts[0], *parts[1], out_.merge_slots.size());
  while (out_.merge_slots[slot] != 0) slot = (slot + 1) & (out_.merge_slots.size() - 1);
  out_.merge_slots[slot] = static_cast<uint32_t>(index + 1);
  return {};
}

Status VocabReader::merges() {
  auto texts = file_.texts("tokenizer.ggml.merges");
  if (!texts) return pass(texts);
  constexpr size_t kMergesMax = size_t{1} << 22;
  if (texts->size() > kMergesMax) {
    return bad(cat("has ", texts->size(), " merges; at most ", kMergesMax),
               std::to_string(texts->size()));
  }
  out_.merge_slots.assign(slots_for(texts->size()), 0);
  out_.merges.reserve(texts->size() * 3);
  for (size_t i = 0; i < texts->size(); ++i) {
    auto added = add_merge((*texts)[i], i);
    if (!added) return added;
  }
  return {};
}

Result<uint32_t> VocabReader::token_id(const char* key) const {
  if (!file_.has(key)) return kNoToken;
  auto id = file_.integer(key);
  if (!id) return pass(id);
  if (*id < out_.kinds.size()) return static_cast<uint32_t>(*id);
  return bad(cat(key, " is ", *id, " but there are only ", out_.kinds.size(), " tokens"),
             std::to_string(*id));
}

Result<VocabTables> VocabReader::run() {
  auto done = check_kind();
  if (done) done = tokens();
  if (done) done = merges();
  if (!done) return pass(done);
  auto bos = token_id("tokenizer.ggml.bos_token_id");
  if (!bos) return pass(bos);
  auto eos = token_id("tokenizer.ggml.eos_token_id");
  if (!eos) return pass(eos);
  out_.bos = *bos;
  out_.eos = *eos;
  return std::move(out_);
}

}  // namespace

TokenizerTables VocabTables::view() const {
  return {text_offsets, texts, kinds, text_slots,         merge_slots,
          merges,       bos,   eos,   kPreTokenizerSmollm};
}

Result<VocabTables> read_vocab(const GgufFile& file) { return VocabReader(file).run(); }

}  // namespace polykv
