// The chat formats as data (model/chat.h).
#pragma once

#include <span>
#include <string_view>

namespace polykv {

struct ChatPart {
  std::string_view text;
  bool special = false;
};

// A message: `before`, its text, `after`. Empty parts are nothing.
struct ChatRole {
  ChatPart before[4];
  ChatPart after[2];
};

// What loses the white space at its ends.
enum class ChatTrim {
  nothing,
  content,  // a message's own text
  message,  // all between `before` and `after`
};

struct ChatStyle {
  std::string_view name;
  bool writes_bos = false;     // at the context's beginning, whatever the vocabulary says
  bool bos_each_user = false;  // before each message of a user
  bool has_system = true;      // messages of the role system
  ChatTrim trim = ChatTrim::nothing;
  std::string_view separator = {};  // between messages
  // Without the role system: around its text, which stands before the user's.
  std::string_view system_before = {}, system_after = {};
  // Of a conversation's first message, if it is a system message: before its text; and its text, if
  // there is none. Both empty: a conversation may begin without one.
  std::string_view preamble = {}, default_system = {};
  ChatRole system = {}, user = {}, assistant = {};
  ChatPart opens_answer[4] = {};  // behind the last message
  std::string_view stops[3] = {};
};

std::span<const ChatStyle> chat_styles();

}  // namespace polykv
