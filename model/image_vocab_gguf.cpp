// Reads tokenizer.ggml.* of a GGUF file.
#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>
#include <unordered_map>

#include "model/image_format.h"
#include "model/image_vocab.h"
#include "model/token_tables.h"

namespace polykv {
namespace {

size_t characters(std::string_view text) {
  return static_cast<size_t>(
      std::ranges::count_if(text, [](char c) { return (c & 0xc0) != 0x80; }));
}

class GgufVocabReader {
 public:
  explicit GgufVocabReader(const GgufFile& file) : file_(file) { out_.path = file.path(); }
  Result<FileVocab> run();

 private:
  std::unexpected<Error> bad(const std::string& what, std::string value) const {
    return fail(ErrorCode::bad_model_file, cat("model file ", out_.path, ": ", what),
                std::move(value));
  }
  Status kind();
  Status byte_level();
  Status flag(const char* key, bool otherwise, uint32_t bit);
  Status no_flag(const char* key) const;
  Result<uint8_t> kind_of(int64_t type, size_t token) const;
  Status tokens();
  Status merges();
  Result<std::vector<double>> scores() const;
  Status merges_from_scores();
  Status token_id(const char* key, uint32_t& out) const;

  const GgufFile& file_;
  FileVocab out_;
};

// Sets the bit if the file says so, or says nothing and `otherwise` holds.
Status GgufVocabReader::flag(const char* key, bool otherwise, uint32_t bit) {
  bool value = otherwise;
  if (file_.has(key)) {
    auto said = file_.flag(key);
    if (!said) return pass(said);
    value = *said;
  }
  if (value) out_.flags |= bit;
  return {};
}

Status GgufVocabReader::no_flag(const char* key) const {
  if (!file_.has(key)) return {};
  auto said = file_.flag(key);
  if (!said) return pass(said);
  if (!*said) return {};
  return fail(ErrorCode::unsupported_model,
              cat("model file ", out_.path, ": ", key, " is true; this build does not do that"),
              "true", "false");
}

Status GgufVocabReader::byte_level() {
  auto name = file_.text("tokenizer.ggml.pre");
  if (!name) return pass(name);
  const PreTokenizerName* known = find_pre_tokenizer(*name);
  if (known == nullptr) {
    return fail(ErrorCode::unsupported_model,
                cat("model file ", out_.path, ": tokenizer.ggml.pre is ", printable(*name),
                    "; this build knows ", pre_tokenizer_names()),
                printable(*name), std::string(pre_tokenizer_names()));
  }
  out_.pre_tokenizer = known->kind;
  out_.flags |= known->flags & ~kAddBos;
  return flag("tokenizer.ggml.add_bos_token", (known->flags & kAddBos) != 0, kAddBos);
}

Status GgufVocabReader::kind() {
  auto name = file_.text("tokenizer.ggml.model");
  if (!name) return pass(name);
  auto done = no_flag("tokenizer.ggml.add_eos_token");
  if (done) done = no_flag("tokenizer.ggml.remove_extra_whitespaces");
  if (!done) return done;
  if (*name == "gpt2") return byte_level();
  if (*name != "llama") {
    return fail(
        ErrorCode::unsupported_model,
        cat("model file ", out_.path, ": tokenizer.ggml.model is ", printable(*name),
            "; this build knows \"gpt2\" (byte-level BPE) and \"llama\" (SentencePiece BPE)"),
        printable(*name), "gpt2, llama");
  }
  out_.pre_tokenizer = PreTokenizer::sentencepiece;
  done = flag("tokenizer.ggml.add_bos_token", true, kAddBos);
  return done ? flag("tokenizer.ggml.add_space_prefix", true, kSpacePrefix) : done;
}

// GGUF: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. What plain text must
// never produce is special.
Result<uint8_t> GgufVocabReader::kind_of(int64_t type, size_t token) const {
  if (type == 1) return kKindNormal;
  if (type == 4) return kKindUser;
  if (type == 2 || type == 3 || type == 5) return kKindSpecial;
  if (type == 6 && out_.pre_tokenizer == PreTokenizer::sentencepiece) return kKindByte;
  return bad(cat("token ", token, " has the type ", type, "; expected 1 to 5, or 6 for a byte"),
             std::to_string(type));
}

Status GgufVocabReader::tokens() {
  auto texts = file_.texts("tokenizer.ggml.tokens");
  if (!texts) return pass(texts);
  auto types = file_.integers("tokenizer.ggml.token_type");
  if (!types) return pass(types);
  for (size_t i = 0; i < types->size(); ++i) {
    auto kind = kind_of((*types)[i], i);
    if (!kind) return pass(kind);
    out_.kinds.push_back(*kind);
  }
  out_.tokens = std::move(*texts);
  return {};
}

Status GgufVocabReader::merges() {
  auto texts = file_.texts("tokenizer.ggml.merges");
  if (!texts) return pass(texts);
  for (const std::string_view text : *texts) {
    const size_t space = text.find(' ');
    if (space == std::string_view::npos) {
      return bad(cat("merge ", out_.merges.size(), ", ", printable(text),
                     ", has no space between its tokens"),
                 printable(text));
    }
    out_.merges.push_back({text.substr(0, space), text.substr(space + 1)});
  }
  return {};
}

Result<std::vector<double>> GgufVocabReader::scores() const {
  auto scores = file_.numbers("tokenizer.ggml.scores");
  if (!scores) return pass(scores);
  if (std::ranges::any_of(*scores, [](double score) { return std::isnan(score); })) {
    return bad("a score of its tokens is not a number", "nan");
  }
  if (scores->size() == out_.tokens.size()) return scores;
  return bad(cat("has ", out_.tokens.size(), " tokens and ", scores->size(), " scores"),
             std::to_string(scores->size()));
}

// SentencePiece gives each token a score instead: any two tokens that make a third may merge, the
// third with the highest score first. Among those of one score the order is that of Hugging Face's
// converter: the longest left token first.
Status GgufVocabReader::merges_from_scores() {
  auto scores = this->scores();
  if (!scores) return pass(scores);
  struct Scored {
    double score;
    size_t left_characters, right_characters;
    uint32_t id, left, right;
    auto order() const {
      return std::tuple(-score, ~left_characters, ~right_characters, id, left, right);
    }
  };
  std::unordered_map<std::string_view, uint32_t> ids;
  for (uint32_t i = 0; i < out_.tokens.size(); ++i) {
    if (out_.kinds[i] == kKindNormal) ids.emplace(out_.tokens[i], i);
  }
  std::vector<Scored> found;
  for (const auto& [text, id] : ids) {
    if (text.size() > kTokenBytesMax) continue;  // refused later; here it would take its square
    for (size_t at = 1; at < text.size(); ++at) {
      const auto left = ids.find(text.substr(0, at));
      if (left == ids.end()) continue;
      const auto right = ids.find(text.substr(at));
      if (right == ids.end()) continue;
      found.push_back({(*scores)[id], characters(left->first), characters(right->first), id,
                       left->second, right->second});
    }
  }
  std::ranges::sort(found, {}, &Scored::order);
  for (const Scored& merge : found) {
    out_.merges.push_back({out_.tokens[merge.left], out_.tokens[merge.right]});
  }
  return {};
}

Status GgufVocabReader::token_id(const char* key, uint32_t& out) const {
  out = kNoToken;
  if (!file_.has(key)) return {};
  auto id = file_.integer(key);
  if (!id) return pass(id);
  if (*id < out_.tokens.size()) {
    out = static_cast<uint32_t>(*id);
    return {};
  }
  return bad(cat(key, " is ", *id, " but there are only ", out_.tokens.size(), " tokens"),
             std::to_string(*id));
}

Result<FileVocab> GgufVocabReader::run() {
  auto done = kind();
  if (done) done = tokens();
  if (done) {
    done = out_.pre_tokenizer == PreTokenizer::sentencepiece ? merges_from_scores() : merges();
  }
  if (done) done = token_id("tokenizer.ggml.bos_token_id", out_.bos);
  if (done) done = token_id("tokenizer.ggml.eos_token_id", out_.eos);
  for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    uint32_t end = kNoToken;
    if (done) done = token_id(key, end);
    if (end != kNoToken) out_.ends.push_back(end);
  }
  if (!done) return pass(done);
  return std::move(out_);
}

}  // namespace

Result<FileVocab> read_gguf_vocab(const GgufFile& file) { return GgufVocabReader(file).run(); }

}  // namespace polykv
