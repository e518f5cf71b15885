// The state of a chat.
#include "launch/chat.h"

namespace polykv {
namespace {

Message said(const char* role, const std::string& content) {
  return Message("chat_message").set("role", role).set("content", content);
}

}  // namespace

Message Conversation::request(const std::string& question) const {
  AskCommand command = command_;
  if (version_ > 0) command.version = version_;
  if (!agent_.empty()) command.agent = agent_;
  std::vector<Message> messages = said_;
  messages.push_back(said("user", question));
  return generate_request(command).set("messages", messages);
}

void Conversation::answered(const std::string& question, const Message& done,
                            const std::string& id) {
  said_.push_back(said("user", question));
  said_.push_back(said("assistant", done.text("text")));
  version_ = done.integer("version");
  agent_ = done.text("agent");
  last_request_ = id;
}

void Conversation::failed(const Error& error) {
  last_request_.clear();
  if (error.code == ErrorCode::agent_lost) agent_.clear();  // another one can go on
}

void Conversation::committed(const Message& committed) {
  said_.clear();
  version_ = committed.integer("version");
  last_request_.clear();
}

bool Conversation::undo() {
  if (said_.empty()) return false;
  said_.resize(said_.size() - 2, Message("chat_message"));
  last_request_.clear();
  return true;
}

void Conversation::restart() {
  said_.clear();
  version_ = 0;
  last_request_.clear();
}

Result<std::string> Conversation::committable() const {
  if (said_.empty()) {
    return fail(ErrorCode::usage, "nothing has been said that is not in the pool already");
  }
  if (last_request_.empty()) {
    return fail(ErrorCode::conflict,
                "what the agent computed last is not part of the conversation (it was undone, "
                "cancelled or failed): ask once more, then commit");
  }
  return last_request_;
}

}  // namespace polykv
