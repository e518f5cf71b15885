// Each byte-level pre-tokenizer as one PCRE2 pattern. The only file that knows PCRE2.
#include "model/tokenizer_split.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>

namespace polykv {
namespace {

struct CodeDeleter {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct MatchDeleter {
  void operator()(pcre2_match_data* match) const { pcre2_match_data_free(match); }
};

// Inside a character class. Unicode's White_Space; PCRE2's own \s also has U+180E.
constexpr const char* kSpace =
    R"(\t-\r \x85\xA0\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

// Letters and numbers that came after Unicode 14, so that results do not depend on PCRE2's age.
constexpr const char* kLetter =
    R"(\p{L}\x{1C89}\x{1C8A}\x{A7CB}-\x{A7CD}\x{A7DA}-\x{A7DC}\x{105C0}-\x{105F3})"
    R"(\x{10D4A}-\x{10D65}\x{10D6F}-\x{10D85}\x{10EC2}-\x{10EC4}\x{1123F}\x{11240})"
    R"(\x{11380}-\x{11389}\x{1138B}\x{1138E}\x{11390}-\x{113B5}\x{113B7}\x{113D1}\x{113D3})"
    R"(\x{11BC0}-\x{11BE0}\x{11F02}\x{11F04}-\x{11F10}\x{11F12}-\x{11F33}\x{1342F})"
    R"(\x{13441}-\x{13446}\x{13460}-\x{143FA}\x{16100}-\x{1611D}\x{16D40}-\x{16D6C}\x{18CFF})"
    R"(\x{1B132}\x{1B155}\x{1DF25}-\x{1DF2A}\x{1E030}-\x{1E06D}\x{1E4D0}-\x{1E4EB})"
    R"(\x{1E5D0}-\x{1E5ED}\x{1E5F0}\x{2B739}\x{2EBF0}-\x{2EE5D}\x{31350}-\x{323AF})";
constexpr const char* kNumber =
    R"(\p{N}\x{10D40}-\x{10D49}\x{116D0}-\x{116E3}\x{11BF0}-\x{11BF9}\x{11DE0}-\x{11DE9})"
    R"(\x{11F50}-\x{11F59}\x{16130}-\x{16139}\x{16D70}-\x{16D79}\x{16FF4}-\x{16FF6})"
    R"(\x{1CCF0}-\x{1CCF9}\x{1D2C0}-\x{1D2D3}\x{1E4F0}-\x{1E4F9}\x{1E5F1}-\x{1E5FA})";

// What tekken tells apart, likewise: capitals, small letters, letters without case and marks.
constexpr const char* kCapital =
    R"(\p{Lu}\p{Lt}\x{1C89}\x{A7CB}\x{A7CC}\x{A7DA}\x{A7DC}\x{10D50}-\x{10D65})";
constexpr const char* kSmall =
    R"(\p{Ll}\x{1C8A}\x{A7CD}\x{A7DB}\x{10D70}-\x{10D85}\x{1DF25}-\x{1DF2A})";
constexpr const char* kCaseless =
    R"(\p{Lm}\p{Lo}\p{M}\x{105C0}-\x{105F3}\x{10D4A}-\x{10D4F}\x{10D6F}\x{10EC2}-\x{10EC4})"
    R"(\x{1123F}\x{11240}\x{11380}-\x{11389}\x{1138B}\x{1138E}\x{11390}-\x{113B5}\x{113B7})"
    R"(\x{113D1}\x{113D3}\x{11BC0}-\x{11BE0}\x{11F02}\x{11F04}-\x{11F10}\x{11F12}-\x{11F33})"
    R"(\x{1342F}\x{13441}-\x{13446}\x{13460}-\x{143FA}\x{16100}-\x{1611D}\x{16D40}-\x{16D6C})"
    R"(\x{18CFF}\x{1B132}\x{1B155}\x{1E030}-\x{1E06D}\x{1E4D0}-\x{1E4EB}\x{1E5D0}-\x{1E5ED})"
    R"(\x{1E5F0}\x{2B739}\x{2EBF0}-\x{2EE5D}\x{31350}-\x{323AF}\x{897}\x{CF3}\x{ECE})"
    R"(\x{10D69}-\x{10D6D}\x{10EFC}-\x{10EFF}\x{11241}\x{113B8}-\x{113C0}\x{113C2}\x{113C5})"
    R"(\x{113C7}-\x{113CA}\x{113CC}-\x{113D0}\x{113D2}\x{113E1}\x{113E2}\x{11F00}\x{11F01})"
    R"(\x{11F03}\x{11F34}-\x{11F3A}\x{11F3E}-\x{11F42}\x{11F5A}\x{13440}\x{13447}-\x{13455})"
    R"(\x{1611E}-\x{1612F}\x{1E08F}\x{1E4EC}-\x{1E4EF}\x{1E5EE}\x{1E5EF})";

std::string any(std::string_view of) { return cat('[', of, ']'); }

// The reference first cuts out every number character, then runs GPT-2's pattern inside each piece.
// One pattern does both: a number stands alone, and spaces before it are followed by "the end of
// the piece".
std::string smollm_pattern() {
  return cat("'(?:s|t|re|ve|m|ll|d)", "| ?", any(kLetter), "++", "|", any(kNumber), "| ?[^", kSpace,
             kLetter, kNumber, "]++", "|", any(kSpace), "+(?![^", kSpace, kNumber, "])", "|",
             any(kSpace), "+");
}

std::string gpt2_pattern() {
  return cat("'(?:s|t|re|ve|m|ll|d)", "| ?", any(kLetter), "++", "| ?", any(kNumber), "++", "| ?[^",
             kSpace, kLetter, kNumber, "]++", "|", any(kSpace), "+(?![^", kSpace, "])", "|",
             any(kSpace), "+");
}

// Llama 3 and Qwen2 differ in how many digits may stay together.
std::string llama3_pattern(const char* digits) {
  return cat("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "|[^\\r\\n", kLetter, kNumber, "]?", any(kLetter),
             "++|", any(kNumber), digits, "| ?[^", kSpace, kLetter, kNumber, "]++[\\r\\n]*+", "|",
             any(kSpace), "*[\\r\\n]+", "|", any(kSpace), "+(?![^", kSpace, "])", "|", any(kSpace),
             "+");
}

std::string tekken_pattern() {
  const std::string before = cat("[^\\r\\n", kLetter, kNumber, "]?");
  const std::string capitals = any(cat(kCapital, kCaseless)), small = any(cat(kSmall, kCaseless));
  return cat(before, capitals, "*", small, "+|", before, capitals, "+", small, "*|", any(kNumber),
             "| ?[^", kSpace, kLetter, kNumber, "]++[\\r\\n/]*+|", any(kSpace), "*[\\r\\n]+|",
             any(kSpace), "+(?![^", kSpace, "])|", any(kSpace), "+");
}

std::string pattern(PreTokenizer kind) {
  switch (kind) {
    case PreTokenizer::tekken:
      return tekken_pattern();
    case PreTokenizer::gpt2:
      return gpt2_pattern();
    case PreTokenizer::llama3:
      return llama3_pattern("{1,3}");
    case PreTokenizer::qwen2:
      return llama3_pattern("");
    default:
      return smollm_pattern();
  }
}

std::string message_of(int code) {
  std::array<unsigned char, 128> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

struct Splitter::State {
  std::unique_ptr<pcre2_code, CodeDeleter> code;
  std::unique_ptr<pcre2_match_data, MatchDeleter> match;
};

Result<Splitter> Splitter::create(PreTokenizer kind) {
  const std::string text = pattern(kind);
  int error = 0;
  size_t where = 0;
  std::unique_ptr<pcre2_code, CodeDeleter> code(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &error, &where, nullptr));
  if (!code) {
    return fail(ErrorCode::internal, cat("the pre-tokenizer's pattern is refused by this PCRE2: ",
                                         message_of(error), " at ", where));
  }
  std::unique_ptr<pcre2_match_data, MatchDeleter> match(pcre2_match_data_create(1, nullptr));
  if (!match) return fail(ErrorCode::internal, "no memory for the pre-tokenizer");
  return Splitter(std::make_unique<State>(State{std::move(code), std::move(match)}));
}

Result<size_t> Splitter::piece(std::string_view text, size_t at) const {
  const int rc = pcre2_match(state_->code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()),
                             text.size(), at, PCRE2_NO_UTF_CHECK, state_->match.get(), nullptr);
  const size_t end = rc > 0 ? pcre2_get_ovector_pointer(state_->match.get())[1] : at;
  if (end > at) return end - at;
  return fail(ErrorCode::internal,
              cat("the pre-tokenizer stopped at byte ", at, ": ", message_of(rc)));
}

Splitter::Splitter(std::unique_ptr<State> state) : state_(std::move(state)) {}
Splitter::Splitter(Splitter&&) noexcept = default;
Splitter& Splitter::operator=(Splitter&&) noexcept = default;
Splitter::~Splitter() = default;

}  // namespace polykv
