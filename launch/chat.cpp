// The loop of a chat: a line, its answer, the next line.
#include "launch/chat.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <iomanip>
#include <iostream>

#include "ipc/utf8.h"
#include "launch/line_reader.h"

namespace polykv {
namespace {

constexpr const char* kHelp =
    "  a line       asks it, after all that was said before (//x asks /x)\n"
    "  /commit      makes the conversation so far a new version of the pool, for everybody\n"
    "  /undo        forgets the last question and its answer\n"
    "  /new         begins anew, on the pool's current version\n"
    "  /help        this\n"
    "  /quit        ends the chat; what was not committed is forgotten\n"
    "  Ctrl-C       cancels the running answer\n";

// Whether a Ctrl-C has come, and not the order to end. Takes the signal.
bool took_ctrl_c(int signals) {
  signalfd_siginfo info{};
  return ::read(signals, &info, sizeof info) == sizeof info && info.ssi_signo == SIGINT;
}

class Chat {
 public:
  Chat(const ChatCommand& command, Client& client, int signals)
      : verbose_(command.verbose),
        client_(client),
        signals_(signals),
        conversation_(command.ask),
        person_(::isatty(STDIN_FILENO) == 1) {}

  Status run() {
    if (person_) std::cerr << "Ask something; /help says what else there is.\n";
    while (!quit_) {
      auto line = next_line();
      if (!line) return pass(line);
      if (!*line) break;
      const Status done = take(**line);
      if (done) continue;
      if (!person_ || done.error().code == ErrorCode::not_running) return done;
      std::cerr << "(" << done.error().message << ")\n";
    }
    return {};
  }

 private:
  // nullopt at the end of the input.
  Result<std::optional<std::string>> next_line() {
    if (person_) std::cerr << "> " << std::flush;
    while (true) {
      if (auto line = lines_.next()) return line;
      if (lines_.ended()) return std::nullopt;
      pollfd waits[] = {{lines_.fd(), POLLIN, 0}, {client_.end_fd(), POLLIN, 0}};
      if (::poll(waits, 2, -1) < 0 && errno != EINTR) return fail_errno("waiting for a line");
      if (waits[1].revents != 0) {
        if (auto end = interrupted(); !end) return pass(end);
        std::cerr << "\n(nothing to cancel; /quit or Ctrl-D ends the chat)\n> " << std::flush;
      } else if (waits[0].revents != 0) {
        if (auto filled = lines_.fill(); !filled) return pass(filled);
      }
    }
  }

  // Ok after a Ctrl-C; else what has ended.
  Status interrupted() {
    pollfd signal{signals_, POLLIN, 0};
    if (::poll(&signal, 1, 0) <= 0) return fail(ErrorCode::not_running, "the runtime has ended");
    if (took_ctrl_c(signals_)) return {};
    return fail(ErrorCode::cancelled, "interrupted");
  }

  Status take(const std::string& line) {
    if (line.find_first_not_of(" \t") == line.npos) return {};
    if (auto at = invalid_utf8(line)) {
      return fail(ErrorCode::bad_text, cat("the line is not UTF-8 at byte ", *at), cat(*at));
    }
    if (line.starts_with("//")) return ask(line.substr(1));
    return line.front() == '/' ? obey(line) : ask(line);
  }

  Status obey(const std::string& line) {
    const std::string word = line.substr(0, line.find_last_not_of(" \t") + 1);
    if (word == "/commit") return commit();
    if (word == "/quit") {
      quit_ = true;
    } else if (word == "/help") {
      std::cerr << kHelp;
    } else if (word == "/new") {
      conversation_.restart();
    } else if (word == "/undo") {
      std::cerr << (conversation_.undo() ? "(forgotten)\n" : "(there is nothing to undo)\n");
    } else {
      return fail(ErrorCode::usage, cat("there is no ", word, ": /help says what there is"), word);
    }
    return {};
  }

  Status ask(const std::string& question) {
    auto id = client_.send(conversation_.request(question));
    if (!id) return pass(id);
    auto done = answer(*id);
    std::cout << std::endl;
    if (done && done->text("reason") == "cancelled") {
      done = fail(ErrorCode::cancelled, "cancelled: not part of the conversation");
    }
    if (!done) {
      conversation_.failed(done.error());
      return pass(done);
    }
    conversation_.answered(question, *done, *id);
    if (verbose_) tell(*done);
    return {};
  }

  // Streams the answer to a request; a Ctrl-C asks for its end and waits for it.
  Result<Message> answer(const std::string& id) {
    while (true) {
      auto message = client_.receive();
      if (!message && message.error().code == ErrorCode::cancelled) {
        if (auto end = interrupted(); !end) return pass(end);
        auto sent = client_.send(Message("cancel").set("request", id));
        if (!sent) return pass(sent);
        continue;
      }
      if (!message) return message;
      if (message->text("id") != id) continue;
      if (message->type() == "error") return std::unexpected(error_of(*message));
      if (message->type() == "done") return message;
      if (message->type() == "token") std::cout << message->text("text") << std::flush;
    }
  }

  Status commit() {
    const auto request = conversation_.committable();
    if (!request) return pass(request);
    auto committed = client_.ask(Message("commit").set("request", *request));
    if (!committed) return pass(committed);
    conversation_.committed(*committed);
    std::cerr << "(pool " << committed->text("pool") << " is now at version "
              << committed->integer("version") << ": " << committed->integer("turn_tokens")
              << " tokens of this conversation, " << committed->integer("prefill_tokens")
              << " of them prefilled)\n";
    return {};
  }

  static void tell(const Message& done) {
    std::cerr << std::fixed << std::setprecision(1) << "(" << done.text("agent") << " on version "
              << done.integer("version") << ": " << done.integer("prompt_tokens")
              << " prompt tokens, " << done.integer("reused_tokens") << " of them reused; "
              << done.integer("tokens") << " tokens, the first after " << done.number("ttft_ms")
              << " ms, " << done.number("tokens_per_s") << " tokens/s)\n";
  }

  bool verbose_;
  Client& client_;
  int signals_;
  Conversation conversation_;
  LineReader lines_{STDIN_FILENO};
  bool person_;
  bool quit_ = false;
};

}  // namespace

Status chat(const ChatCommand& command, int interrupt_fd) {
  auto client = Client::connect(command.ask.runtime, interrupt_fd);
  if (!client) return pass(client);
  return Chat(command, *client, interrupt_fd).run();
}

}  // namespace polykv
