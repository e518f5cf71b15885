// The loop: ask, draw, wait for a second or an event.
#include "launch/watch.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <chrono>
#include <iostream>
#include <optional>

#include "launch/client.h"
#include "launch/status_view.h"
#include "launch/text_table.h"

namespace polykv {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kPeriodMs = 1000;
constexpr int kSettleMs = 100;  // events that come together are shown together
constexpr size_t kEventsShown = 6;

struct Size {
  size_t columns = 80, rows = 24;
};

Size terminal_size() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) {
    return {};
  }
  return {size.ws_col, size.ws_row};
}

// The terminal's second screen without a cursor; the first one comes back at the end.
class Screen {
 public:
  Screen() : terminal_(::isatty(STDOUT_FILENO) == 1) {
    if (terminal_) std::cout << "\033[?1049h\033[?25l";
  }
  ~Screen() {
    if (terminal_) std::cout << "\033[?25h\033[?1049l" << std::flush;
  }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  void draw(const Message& snapshot, const ViewNotes& notes) const {
    if (terminal_) {
      const Size size = terminal_size();
      std::cout << screen_of(status_lines(snapshot, notes, size.columns), size.rows);
    } else {
      for (const std::string& line : status_lines(snapshot, notes, 0)) std::cout << line << '\n';
      std::cout << '\n';
    }
    std::cout << std::flush;
  }

 private:
  bool terminal_;
};

class Watch {
 public:
  explicit Watch(Client& client) : client_(client) {}

  // Until something ends it.
  Error run() {
    const Screen screen;
    while (true) {
      auto snapshot = ask();
      if (!snapshot) return snapshot.error();
      count(*snapshot);
      screen.draw(*snapshot, notes_);
      if (auto waited = wait(); !waited) return waited.error();
    }
  }

 private:
  Result<Message> ask() {
    auto id = client_.send(Message("status"));
    if (!id) return pass(id);
    while (true) {
      auto message = client_.receive();
      if (!message || message->text("id") == *id) return message;
      take(*message);
    }
  }

  // An event, or an answer to nobody.
  bool take(const Message& event) {
    const std::string line = event_line(event);
    if (line.empty()) return false;
    notes_.events.push_back(line);
    if (notes_.events.size() > kEventsShown) notes_.events.erase(notes_.events.begin());
    return true;
  }

  void count(const Message& snapshot) {
    const auto now = Clock::now();
    const double seconds = std::chrono::duration<double>(now - counted_).count();
    if (before_ && seconds < kPeriodMs / 2000.0) return;  // too short for a rate
    if (before_) notes_.tokens_per_s = rates_between(*before_, snapshot, seconds);
    before_ = snapshot;
    counted_ = now;
  }

  Status wait() {
    auto until = Clock::now() + std::chrono::milliseconds(kPeriodMs);
    while (true) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
      if (left.count() <= 0) return {};
      auto message = client_.receive_within(static_cast<int>(left.count()));
      if (!message) return pass(message);
      if (*message && take(**message)) {
        until = std::min(until, Clock::now() + std::chrono::milliseconds(kSettleMs));
      }
    }
  }

  Client& client_;
  ViewNotes notes_;
  std::optional<Message> before_;
  Clock::time_point counted_;
};

}  // namespace

std::string screen_of(std::vector<std::string> lines, size_t rows) {
  if (rows > 0 && lines.size() > rows) {
    const size_t hidden = lines.size() - rows + 1;
    lines.resize(rows - 1);
    lines.push_back(cat("… ", hidden, " more lines"));
  }
  std::string screen = "\033[H";
  for (const std::string& line : lines) {
    screen += cat(&line == &lines.front() ? "" : "\r\n", line, "\033[K");
  }
  return screen + "\033[J";
}

Status watch_status(const std::string& runtime, int interrupt_fd) {
  auto client = Client::connect(runtime, interrupt_fd, {"pool", "agent"});
  if (!client) return pass(client);
  const Error end = Watch(*client).run();
  if (end.code == ErrorCode::cancelled) return {};  // Ctrl-C is how one leaves
  if (end.code != ErrorCode::not_running) return std::unexpected(end);
  return fail(ErrorCode::not_running, cat("the runtime in ", runtime, " has ended"));
}

}  // namespace polykv
