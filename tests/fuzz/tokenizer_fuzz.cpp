// The tokenizers with whole vocabularies (tests/fixtures/vocab_*.json): the first byte chooses one,
// the rest is text, which comes back as it went in.
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "model/image_vocab.h"
#include "model/tokenizer.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/model_checks.h"
#include "tests/model/vocab_fixture.h"

using namespace polykv;

namespace {

// pre: instead of the file's, "" = the file's.
VocabTables read_vocabulary(const std::filesystem::path& path, const std::string& pre = "") {
  std::ifstream in(path);
  auto vocab = nlohmann::json::parse(in);
  if (!pre.empty()) vocab["pre"] = pre;
  test::GgufWriter written;
  test::put_vocab(written, vocab);
  const fuzz::MemoryFile on_disk(written.bytes());
  const auto file = GgufFile::open(on_disk.path());
  check(file.has_value(), "a fixture's vocabulary is a good file");
  auto read = read_gguf_vocab(*file);
  check(read.has_value(), read ? "" : read.error().message.c_str());
  auto tables = build_vocab(*read);
  check(tables.has_value(), tables ? "" : tables.error().message.c_str());
  return std::move(*tables);
}

struct Kind {
  VocabTables vocab;
  TokenizerTables tables;
  std::optional<Tokenizer> tokenizer;
};

std::unique_ptr<Kind> make_kind(VocabTables vocab) {
  auto kind = std::make_unique<Kind>(Kind{std::move(vocab), {}, std::nullopt});
  kind->tables = kind->vocab.view();
  kind->tokenizer.emplace(std::move(*Tokenizer::create(kind->tables)));
  return kind;
}

// In the order of their names.
const std::vector<std::unique_ptr<Kind>>& kinds() {
  static const auto all = [] {
    const std::string kFixtures = POLYKV_SOURCE_DIR "/tests/fixtures";
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(kFixtures)) {
      if (entry.path().filename().string().starts_with("vocab_")) paths.push_back(entry.path());
    }
    std::ranges::sort(paths);
    std::vector<std::unique_ptr<Kind>> out;
    for (const auto& path : paths) out.push_back(make_kind(read_vocabulary(path)));
    out.push_back(make_kind(read_vocabulary(kFixtures + "/vocab_gpt2.json", "smollm")));
    return out;
  }();
  return all;
}

// What encoding may change: U+2581 is a space for SentencePiece.
std::string as_encoded(const TokenizerTables& tables, std::string_view text) {
  std::string out(text);
  if (tables.pre_tokenizer != PreTokenizer::sentencepiece) return out;
  constexpr std::string_view kMark = "\u2581";
  for (size_t at = out.find(kMark); at != std::string::npos; at = out.find(kMark, at)) {
    out.replace(at, kMark.size(), " ");
  }
  return out;
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const Kind& kind = *kinds()[data[0] % kinds().size()];
  const std::string_view text = fuzz::text_of(data + 1, size - 1);
  fuzz::check_tokenizer(kind.tables, text);
  const auto tokens = kind.tokenizer->encode(text);
  if (!tokens) return 0;
  const bool composed = (kind.tables.flags & kComposed) != 0;  // another form of the same text
  check(composed || kind.tokenizer->decode(*tokens) == as_encoded(kind.tables, text),
        "a text comes back");
  check(*kind.tokenizer->encode(std::vector<TextPiece>{{std::string(text)}}) == *tokens,
        "a text is one piece");
  size_t half = text.size() / 2;
  while (half > 0 && (text[half] & 0xc0) == 0x80) --half;
  const std::vector<TextPiece> halves = {{std::string(text.substr(0, half))},
                                         {std::string(text.substr(half))}};
  check(*kind.tokenizer->encode(halves) == *tokens, "plain pieces side by side are one text");
  return 0;
}
