// Messages to pieces, by a style's parts.
#include "model/chat.h"

#include <algorithm>

#include "model/chat_styles.h"
#include "model/gguf.h"

namespace polykv {
namespace {

// Where a format has no message for the shared document: what stands between it and the question.
constexpr std::string_view kAcknowledged = "Understood.";

void add(std::string_view text, bool special, std::vector<TextPiece>& pieces) {
  if (text.empty()) return;
  const bool joins = !special && !pieces.empty() && !pieces.back().special;
  if (joins) {
    pieces.back().text += text;
  } else {
    pieces.push_back({std::string(text), special});
  }
}

void add(std::span<const ChatPart> parts, std::vector<TextPiece>& pieces) {
  for (const ChatPart& part : parts) add(part.text, part.special, pieces);
}

// The white space that Jinja's filter trim takes away.
std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kWhite = " \t\n\v\f\r";
  const size_t begin = text.find_first_not_of(kWhite);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kWhite) - begin + 1);
}

const ChatRole& role_of(const ChatStyle& style, std::string_view role) {
  if (role == "assistant") return style.assistant;
  return role == "system" && style.has_system ? style.system : style.user;
}

}  // namespace

std::string chat_format_names() {
  std::string names;
  for (const ChatStyle& style : chat_styles()) names += cat(names.empty() ? "" : ", ", style.name);
  return names;
}

Result<ChatFormat> ChatFormat::find(std::string_view name, ContextStart start) {
  const auto style = std::ranges::find(chat_styles(), name, &ChatStyle::name);
  if (style == chat_styles().end()) {
    return fail(
        ErrorCode::unsupported_model,
        cat("unknown chat format ", printable(name), "; the choices are: ", chat_format_names()),
        printable(name), chat_format_names());
  }
  ChatFormat format;
  format.style_ = &*style;
  format.start_ = std::move(start);
  return format;
}

void ChatFormat::put(const Message& message, bool first, Pieces& pieces) const {
  const bool user = message.role != "assistant";
  const bool begins = first && (style_->writes_bos || start_.always);
  if (begins || (user && style_->bos_each_user)) add(start_.bos, true, pieces);
  if (!first) add(style_->separator, false, pieces);
  const ChatRole& parts = role_of(*style_, message.role);
  add(parts.before, pieces);
  if (first && message.role == "system") add(style_->preamble, false, pieces);
  if (style_->trim == ChatTrim::message) {
    add(trimmed(cat(message.before, message.content)), false, pieces);
  } else {
    const bool whole = style_->trim == ChatTrim::nothing;
    add(message.before, false, pieces);
    add(whole ? message.content : trimmed(message.content), false, pieces);
  }
  add(parts.after, pieces);
}

// The system message that a conversation of this format cannot begin without; true if it was put.
bool ChatFormat::put_lead(std::string_view role, Pieces& pieces) const {
  if (role == "system" || (style_->preamble.empty() && style_->default_system.empty()))
    return false;
  put({"system", "", style_->default_system}, true, pieces);
  return true;
}

std::vector<TextPiece> ChatFormat::document(std::string_view text, bool first,
                                            std::string_view role) const {
  Pieces pieces;
  if (first && put_lead(role, pieces)) first = false;
  put({role, "", text}, first, pieces);
  if (!style_->has_system && role != "assistant") {
    put({"assistant", "", kAcknowledged}, false, pieces);
  }
  return pieces;
}

std::vector<TextPiece> ChatFormat::turns(std::span<const ChatTurn> all, bool first) const {
  Pieces pieces;
  std::string system;  // of a format without that role: waits for the user's next text
  if (first && !all.empty() && put_lead(all[0].role, pieces)) first = false;
  for (const ChatTurn& each : all) {
    if (each.role == "system" && !style_->has_system) {
      system += cat(style_->system_before, each.content, style_->system_after);
      continue;
    }
    const bool takes = each.role != "assistant";
    put({each.role, takes ? std::string_view(system) : "", each.content}, first, pieces);
    if (takes) system.clear();
    first = false;
  }
  if (!system.empty()) put({"user", system, ""}, first, pieces);
  add(style_->opens_answer, pieces);
  return pieces;
}

std::vector<TextPiece> ChatFormat::conversation(std::span<const ChatTurn> all) const {
  return turns(all, false);
}

std::vector<TextPiece> ChatFormat::opening(std::span<const ChatTurn> all) const {
  return turns(all, true);
}

std::vector<TextPiece> ChatFormat::question(std::string_view text) const {
  const ChatTurn turn{"user", std::string(text)};
  return conversation(std::span(&turn, 1));
}

std::vector<TextPiece> ChatFormat::end_of_answer() const {
  std::vector<TextPiece> pieces;
  for (const ChatPart& part : style_->assistant.after) {
    if (part.special) pieces.push_back({std::string(part.text), true});
  }
  return pieces;
}

std::vector<std::string> ChatFormat::stop_tokens() const {
  std::vector<std::string> names;
  for (const std::string_view name : style_->stops) {
    if (!name.empty()) names.emplace_back(name);
  }
  return names;
}

std::vector<std::string> ChatFormat::needed_tokens() const {
  std::vector<std::string> names;
  for (const ChatRole* role : {&style_->system, &style_->user, &style_->assistant}) {
    for (const ChatPart& part : role->before) {
      if (part.special) names.emplace_back(part.text);
    }
    for (const ChatPart& part : role->after) {
      if (part.special) names.emplace_back(part.text);
    }
  }
  return names;
}

std::optional<std::string_view> recognise_chat_format(std::string_view chat_template) {
  const auto has = [&](std::string_view part) {
    return chat_template.find(part) != std::string_view::npos;
  };
  if (has("<|im_start|>") && has("<|im_end|>")) {
    return has("You are Qwen, created by Alibaba Cloud.") ? "qwen" : "chatml";
  }
  if (has("<|start_header_id|>") && has("<|end_header_id|>")) {
    return has("Cutting Knowledge Date") ? "llama31" : "llama3";
  }
  if (has("<start_of_turn>") && has("<end_of_turn>")) return "gemma";
  if (!has("[INST]") || has("[SYSTEM_PROMPT]")) return std::nullopt;
  if (has("<<SYS>>") || has("bos_token + '[INST]")) return "llama2";
  if (has(" [INST] ")) return "mistral";
  if (has("[INST] ") && has("[/INST]")) return "mistral3";
  return std::nullopt;
}

}  // namespace polykv
