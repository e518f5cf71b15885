// `polykv chat`: a conversation with one agent. Its follow-ups reuse what the agent has computed;
// the pool changes only by /commit.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launch/commands.h"

namespace polykv {

struct ChatCommand {
  AskCommand ask;
  bool verbose = false;
};
// Reads lines from standard input: questions and /commands. Answers go to standard output, all
// else to standard error. A Ctrl-C cancels the running answer only. Errors end it unless a person
// sits at a terminal.
Status chat(const ChatCommand& command, int interrupt_fd);

// What was said so far, and what of it an agent could commit.
class Conversation {
 public:
  explicit Conversation(const AskCommand& command) : command_(command) {}

  // The request that asks this after all that was said before.
  Message request(const std::string& question) const;
  // `question` was answered by `done`, which came to the request of that id.
  void answered(const std::string& question, const Message& done, const std::string& id);
  // A question came to nothing: it is not part of the conversation, but its agent has worked on it.
  void failed(const Error& error);
  void committed(const Message& committed);
  bool undo();     // false: nothing was said
  void restart();  // on the version that the chat began with

  // The request whose turn can be committed; without one, why not.
  Result<std::string> committable() const;
  size_t turns() const { return said_.size() / 2; }

 private:
  AskCommand command_;
  std::vector<Message> said_;  // user, assistant, user, …
  int64_t version_ = 0;        // all of it is on; 0 = not yet known
  std::string agent_;          // who has computed it
  std::string last_request_;   // "" = the agent's last work is not what was said last
};

}  // namespace polykv
