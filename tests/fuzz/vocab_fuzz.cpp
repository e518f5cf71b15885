// Vocabularies of any content: a line of pre-tokenizer, flags, bos and eos, then a line a token
// ("t<kind> text"), merge ("m left right") or text to encode ("x text").
#include <charconv>

#include "model/image_vocab.h"
#include "model/token_tables.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/model_checks.h"

using namespace polykv;

namespace {

uint32_t number(std::string_view& text) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  if (!text.empty()) text.remove_prefix(1);
  return error == std::errc() ? value : 0xffffffff;
}

struct Described {
  FileVocab vocab;
  std::vector<std::string_view> texts;

  void take(std::string_view line) {
    const char what = line.empty() ? ' ' : line.front();
    if (!line.empty()) line.remove_prefix(1);
    if (what == 't') {
      vocab.kinds.push_back(static_cast<uint8_t>(number(line)));
      vocab.tokens.push_back(line);
    } else if (what == 'm') {
      const size_t space = std::min(line.find(' '), line.size());
      vocab.merges.push_back(
          {line.substr(0, space), line.substr(std::min(space + 1, line.size()))});
    } else if (what == 'x') {
      texts.push_back(line);
    }
  }
  // A reader hands on only pre-tokenizers and kinds that it knows.
  bool is_of_a_reader() const {
    static constexpr uint8_t kKinds[] = {kKindNormal, kKindSpecial, kKindUser, kKindByte};
    const auto kind = static_cast<uint32_t>(vocab.pre_tokenizer);
    const auto known = [](uint8_t k) { return std::ranges::find(kKinds, k) != std::end(kKinds); };
    return kind >= 1 && kind <= kPreTokenizerLast && std::ranges::all_of(vocab.kinds, known);
  }
};

Described describe(std::string_view input) {
  Described out;
  const size_t end = std::min(input.find('\n'), input.size());
  std::string_view head = input.substr(0, end);
  out.vocab.path = "fuzz";
  out.vocab.pre_tokenizer = static_cast<PreTokenizer>(number(head));
  out.vocab.flags = number(head) & kTokenizerFlags;
  out.vocab.bos = number(head);
  out.vocab.eos = number(head);
  input.remove_prefix(std::min(end + 1, input.size()));
  while (!input.empty()) {
    const size_t line = std::min(input.find('\n'), input.size());
    out.take(input.substr(0, line));
    input.remove_prefix(std::min(line + 1, input.size()));
  }
  return out;
}

void check_tables(const FileVocab& vocab, const TokenizerTables& tables) {
  check(tables.kinds.size() == vocab.tokens.size(), "every token is in the tables");
  for (uint32_t i = 0; i < tables.kinds.size(); ++i) {
    const std::string_view text = token_text(tables, i);
    check(find_token(tables, text, class_of(tables.kinds[i])) == i, "a token is found by its text");
  }
  for (uint32_t i = 0; i < vocab.merges.size(); ++i) {
    const uint32_t* merge = &tables.merges[size_t{3} * i];
    const auto found = find_merge(tables, merge[0], merge[1]);
    check(found && found->rank == i && found->result == merge[2], "a merge is found by its pair");
    check(cat(token_text(tables, merge[0]), token_text(tables, merge[1])) ==
              token_text(tables, merge[2]),
          "a merge makes its two texts one");
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Described described = describe(fuzz::text_of(data, size));
  if (!described.is_of_a_reader()) return 0;
  const auto vocab = build_vocab(described.vocab);
  if (!vocab) {
    fuzz::check_model_refusal(vocab.error());
    return 0;
  }
  const TokenizerTables tables = vocab->view();
  check_tables(described.vocab, tables);
  for (const std::string_view text : described.texts) fuzz::check_tokenizer(tables, text);
  return 0;
}
