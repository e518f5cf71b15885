// Recognises the tokenizers of the families in what tokenizer.json says of their steps.
#include "model/hub_vocab.h"

#include <cmath>

#include "model/image_format.h"
#include "model/token_tables.h"
#include "model/tokenizer_spaces.h"

namespace polykv {
namespace {

constexpr std::string_view kCases =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})";
constexpr std::string_view kRest = R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr std::string_view kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"(|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"(|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

class HubVocabReader {
 public:
  HubVocabReader(const Json& file, uint32_t n_vocab, const std::string& place)
      : file_(file), n_vocab_(n_vocab), place_(place) {}
  Result<HubVocab> run();

 private:
  std::unexpected<Error> bad(const std::string& what, std::string value) const {
    return fail(ErrorCode::bad_model_file, cat(place_, ": tokenizer.json: ", what),
                std::move(value));
  }
  std::unexpected<Error> unsupported(const std::string& what, std::string_view value) const {
    return fail(ErrorCode::unsupported_model, cat(place_, ": tokenizer.json: ", what),
                std::string(value));
  }
  Status model();
  Status byte_level();
  Status byte_level_normalizer();
  Status sentencepiece();
  Status spaces();
  Status post_processor();
  Status tokens();
  bool is_byte_twice(size_t at, std::string_view text);
  Status put_token(const std::string& text, const Json* id, uint8_t kind);
  Status added_tokens();
  bool stays_normal(std::string_view added) const;
  Status merges();
  // The steps of a component: of a Sequence, or the one that it is itself.
  std::vector<const Json*> steps(std::string_view component, std::string_view list) const;

  const Json& file_;
  const Json* model_ = nullptr;
  uint32_t n_vocab_;
  const std::string& place_;
  HubVocab out_;
};

std::vector<const Json*> HubVocabReader::steps(std::string_view component,
                                               std::string_view list) const {
  const Json* found = file_.find(component);
  if (found == nullptr) return {};
  if (found->text_of("type") != "Sequence") return {found};
  std::vector<const Json*> out;
  const Json* inner = found->find(list);
  if (inner == nullptr || inner->list() == nullptr) return {found};
  for (const Json& step : *inner->list()) out.push_back(&step);
  return out;
}

Status HubVocabReader::model() {
  model_ = file_.find("model");
  if (model_ == nullptr) return bad("has no model", "model");
  const std::string_view type = model_->text_of("type", "BPE");
  if (type != "BPE") return unsupported(cat("the model ", printable(type), " is not BPE"), type);
  for (const char* extra : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (model_->text_of(extra).empty()) continue;
    return unsupported(cat(extra, " is not supported"), extra);
  }
  if (model_->flag_of("ignore_merges", false)) out_.vocab.flags |= kWholeWords;
  return model_->flag_of("byte_fallback", false) ? sentencepiece() : byte_level();
}

Status HubVocabReader::byte_level_normalizer() {
  for (const Json* step : steps("normalizer", "normalizers")) {
    const std::string_view type = step->text_of("type");
    if (type != "NFC")
      return unsupported(cat("the normalizer ", printable(type), " is not supported"), type);
    out_.vocab.flags |= kComposed;
  }
  return {};
}

Status HubVocabReader::byte_level() {
  const auto all = steps("pre_tokenizer", "pretokenizers");
  const auto refuse = [&] {
    return unsupported(cat("its pre-tokenizer is none of ", pre_tokenizer_names()),
                       "pre_tokenizer");
  };
  if (all.empty() || all.size() > 2 || all.back()->text_of("type") != "ByteLevel" ||
      all.back()->flag_of("add_prefix_space", true)) {
    return refuse();
  }
  const bool gpt2 = all.back()->flag_of("use_regex", true);
  const Json* pattern = all[0]->find("pattern");
  const std::string_view regex = pattern == nullptr ? "" : pattern->text_of("Regex");
  const bool splits = all[0]->text_of("type") == "Split" && !gpt2 &&
                      all[0]->text_of("behavior") == "Isolated" &&
                      !all[0]->flag_of("invert", false);
  if (all.size() == 1 && gpt2) {
    out_.vocab.pre_tokenizer = PreTokenizer::gpt2;
  } else if (gpt2 && all[0]->text_of("type") == "Digits" &&
             all[0]->flag_of("individual_digits", false)) {
    out_.vocab.pre_tokenizer = PreTokenizer::smollm;
  } else if (splits && regex == cat(kCases, "{1,3}", kRest)) {
    out_.vocab.pre_tokenizer = PreTokenizer::llama3;
  } else if (splits && regex == cat(kCases, kRest)) {
    out_.vocab.pre_tokenizer = PreTokenizer::qwen2;
  } else if (splits && regex == kTekken) {
    out_.vocab.pre_tokenizer = PreTokenizer::tekken;
  } else {
    return refuse();
  }
  return byte_level_normalizer();
}

Status HubVocabReader::sentencepiece() {
  out_.vocab.pre_tokenizer = PreTokenizer::sentencepiece;
  for (const Json* step : steps("normalizer", "normalizers")) {
    const std::string_view type = step->text_of("type");
    const Json* pattern = step->find("pattern");
    if (type == "Prepend" && step->text_of("prepend") == kSpaceMark) {
      out_.vocab.flags |= kSpacePrefix;
    } else if (type != "Replace" || pattern == nullptr || pattern->text_of("String") != " " ||
               step->text_of("content") != kSpaceMark) {
      return unsupported(cat("the normalizer ", printable(type), " is not supported"), type);
    }
  }
  return spaces();
}

Status HubVocabReader::spaces() {
  for (const Json* step : steps("pre_tokenizer", "pretokenizers")) {
    const std::string_view type = step->text_of("type");
    const Json* pattern = step->find("pattern");
    // A split at spaces, of which the normalizer has left none.
    if (type == "Split" && pattern != nullptr && pattern->text_of("String") == " ") continue;
    const std::string_view scheme = step->text_of("prepend_scheme", "always");
    if (type != "Metaspace" || step->flag_of("split", true) || scheme == "always") {
      return unsupported(
          cat("the pre-tokenizer ", printable(type), " (", printable(scheme), ") is not supported"),
          type);
    }
    if (scheme == "first") out_.vocab.flags |= kSpaceFirst;
  }
  return {};
}

// A template that begins with a special token says that contexts do.
Status HubVocabReader::post_processor() {
  for (const Json* step : steps("post_processor", "processors")) {
    const Json* single = step->find("single");
    if (single == nullptr || single->list() == nullptr || single->list()->empty()) continue;
    if (single->list()->front().find("SpecialToken") != nullptr) out_.vocab.flags |= kAddBos;
    if (single->list()->back().find("SpecialToken") == nullptr) continue;
    return unsupported("it puts a token behind every text; this build does not", "post_processor");
  }
  return {};
}

// Gemma may list a byte as the character that it is, too, under the same id: "<0x09>" and a tab.
bool HubVocabReader::is_byte_twice(size_t at, std::string_view text) {
  const std::string_view known = out_.vocab.tokens[at];
  const std::string_view character = known.size() < text.size() ? known : text;
  if (known.empty() || character.size() != 1) return false;
  constexpr char kHex[] = "0123456789ABCDEF";
  const auto value = static_cast<unsigned char>(character[0]);
  const char name[] = {'<', '0', 'x', kHex[value >> 4], kHex[value & 15], '>'};
  if (std::string_view(name, sizeof name) != (known.size() < text.size() ? text : known)) {
    return false;
  }
  out_.vocab.tokens[at] = character;
  out_.vocab.kinds[at] = kKindNormal;
  return true;
}

Status HubVocabReader::put_token(const std::string& text, const Json* id, uint8_t kind) {
  const double* number = id == nullptr ? nullptr : id->number();
  if (number == nullptr || !(*number >= 0) || *number >= n_vocab_ ||
      std::floor(*number) != *number) {
    return bad(
        cat("token ", printable(text), " has no id below the embedding's ", n_vocab_, " rows"),
        printable(text));
  }
  const auto at = static_cast<size_t>(*number);
  if (is_byte_twice(at, text)) return {};
  if (!out_.vocab.tokens[at].empty() && out_.vocab.tokens[at] != text) {
    return bad(cat("the tokens ", printable(out_.vocab.tokens[at]), " and ", printable(text),
                   " have the same id"),
               printable(text));
  }
  out_.vocab.tokens[at] = text;
  out_.vocab.kinds[at] = kind;
  return {};
}

Status HubVocabReader::tokens() {
  const Json* words = model_->find("vocab");
  if (words == nullptr || words->fields() == nullptr) return bad("its model has no vocab", "vocab");
  out_.vocab.tokens.assign(n_vocab_, {});
  out_.vocab.kinds.assign(n_vocab_, kKindSpecial);
  const bool bytes = out_.vocab.pre_tokenizer == PreTokenizer::sentencepiece;
  for (const auto& [text, id] : *words->fields()) {
    const bool byte = bytes && text.size() == 6 && text.starts_with("<0x") && text.ends_with('>');
    auto put = put_token(text, &id, byte ? kKindByte : kKindNormal);
    if (!put) return put;
  }
  auto added = added_tokens();
  if (!added) return added;
  for (size_t i = 0; i < out_.vocab.tokens.size(); ++i) {
    if (!out_.vocab.tokens[i].empty()) continue;
    out_.vocab.tokens[i] = out_.padding.emplace_back(cat("<|padding ", i, "|>"));
  }
  return {};
}

// A run of spaces by its mark: texts have spaces instead, which merges join once marks stand for
// them.
bool HubVocabReader::stays_normal(std::string_view added) const {
  const Json* words = model_->find("vocab");
  return out_.vocab.pre_tokenizer == PreTokenizer::sentencepiece &&
         added.find(kSpaceMark) != std::string_view::npos && words->find(added) != nullptr;
}

Status HubVocabReader::added_tokens() {
  const Json* added = file_.find("added_tokens");
  if (added == nullptr || added->list() == nullptr) return {};
  for (const Json& token : *added->list()) {
    const Json* content = token.find("content");
    if (content == nullptr || content->text() == nullptr)
      return bad("an added token has no text", "");
    const bool special = token.flag_of("special", false);
    for (const char* rule : {"lstrip", "rstrip", "single_word"}) {
      if (special || !token.flag_of(rule, false)) continue;
      return unsupported(cat("the added token ", printable(*content->text()), " has the rule ",
                             rule, ", which is not supported"),
                         rule);
    }
    if (!special && stays_normal(*content->text())) continue;
    auto put = put_token(*content->text(), token.find("id"), special ? kKindSpecial : kKindUser);
    if (!put) return put;
  }
  return {};
}

Status HubVocabReader::merges() {
  const Json* merges = model_->find("merges");
  if (merges == nullptr || merges->list() == nullptr)
    return bad("its model has no merges", "merges");
  for (const Json& merge : *merges->list()) {
    std::string_view left, right;
    if (merge.list() != nullptr && merge.list()->size() == 2 && (*merge.list())[0].text() &&
        (*merge.list())[1].text()) {
      left = *(*merge.list())[0].text();
      right = *(*merge.list())[1].text();
    } else if (merge.text() != nullptr && merge.text()->find(' ') != std::string::npos) {
      const std::string_view both = *merge.text();
      left = both.substr(0, both.find(' '));
      right = both.substr(both.find(' ') + 1);
    } else {
      return bad(cat("merge ", out_.vocab.merges.size(), " is not two tokens"), "merges");
    }
    out_.vocab.merges.push_back({left, right});
  }
  return {};
}

Result<HubVocab> HubVocabReader::run() {
  out_.vocab.path = place_;
  auto done = model();
  if (done) done = post_processor();
  if (done) done = tokens();
  if (done) done = merges();
  if (!done) return pass(done);
  return std::move(out_);
}

}  // namespace

Result<HubVocab> read_hub_vocab(const Json& tokenizer, uint32_t n_vocab, const std::string& place) {
  return HubVocabReader(tokenizer, n_vocab, place).run();
}

}  // namespace polykv
