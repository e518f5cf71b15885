// Chat templates and messages: a template, ended by a zero byte, a system text, likewise, a user's.
#include <set>

#include "model/chat.h"
#include "model/chat_styles.h"
#include "tests/fuzz/fuzz.h"

using namespace polykv;

namespace {

constexpr const char* kBos = "<bos>";

std::set<std::string> specials_of(const ChatStyle& style, const ChatFormat& format) {
  std::set<std::string> names = {kBos};
  for (auto& name : format.needed_tokens()) names.insert(name);
  for (auto& name : format.stop_tokens()) names.insert(name);
  for (const ChatPart& part : style.opens_answer) names.emplace(part.text);
  return names;
}

// Nothing that a person wrote becomes a special token, and the text is there.
void check_pieces(const std::vector<TextPiece>& pieces, const std::set<std::string>& specials,
                  std::string_view text) {
  std::string plain;
  for (const TextPiece& piece : pieces) {
    check(!piece.special || specials.contains(piece.text), "special pieces are the format's own");
    if (!piece.special) plain += piece.text;
  }
  constexpr std::string_view kWhite = " \t\n\v\f\r";
  const size_t begin = std::min(text.find_first_not_of(kWhite), text.size());
  const size_t end = text.find_last_not_of(kWhite) + 1;
  const std::string_view core = begin < end ? text.substr(begin, end - begin) : "";
  check(plain.find(core) != std::string::npos, "a text is in its message");
}

void check_style(const ChatStyle& style, std::string_view system, std::string_view user) {
  const auto format = ChatFormat::find(style.name, {kBos, true});
  check(format.has_value(), "a style is found by its name");
  const auto specials = specials_of(style, *format);
  check_pieces(format->document(system, true), specials, system);
  check_pieces(format->document(system, false, "user"), specials, system);
  check_pieces(format->question(user), specials, user);
  const ChatTurn turns[] = {{"system", std::string(system)},
                            {"user", std::string(user)},
                            {"assistant", "yes"},
                            {"user", std::string(user)}};
  check_pieces(format->opening(turns), specials, system);
  check_pieces(format->conversation(turns), specials, user);
  check_pieces(format->end_of_answer(), specials, "");
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto parts = fuzz::parts_of(fuzz::text_of(data, size), 2);
  const auto name = recognise_chat_format(parts[0]);
  check(!name || ChatFormat::find(*name), "a recognised format exists");
  const auto unknown = ChatFormat::find(parts[0]);
  if (!unknown) fuzz::check_refusal(unknown.error(), {ErrorCode::unsupported_model});
  for (const ChatStyle& style : chat_styles()) check_style(style, parts[1], parts[2]);
  return 0;
}
