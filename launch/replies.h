// Answers to whoever asked, by ZeroMQ or by a link, and events on the bus. A request that comes
// again under the same id is answered again and never run again.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "ipc/control.h"

namespace polykv {

// Who asked, and under which id.
struct Asker {
  std::string client;  // ZeroMQ routing id; if it came by a link, empty
  uint64_t link = 0;   // id of that link
  std::string request;

  bool operator==(const Asker&) const = default;
};

class Replies {
 public:
  // Sends to a link by its id; false if it is gone or does not read.
  using SendToLink =
      std::function<bool(uint64_t link, const Message&, const std::vector<int>& fds)>;
  Replies(ControlServer& control, SendToLink send_to_link)
      : control_(control), send_to_link_(std::move(send_to_link)) {}

  // False if this request was seen before: it was answered again, or is being worked on.
  bool is_new(const Asker& asker);

  // The final answer. Who went away misses it.
  void reply(const Asker& asker, Message message, const std::vector<int>& fds = {});
  void refuse(const Asker& asker, const Error& error) { reply(asker, error_message(error)); }
  // Something on the way to it; false if who asked is gone or does not read.
  bool part(const Asker& asker, Message message, const std::vector<int>& fds = {});

  // An event on the bus, numbered per topic ("pool", "agent", "token"); `event` gets its number.
  void announce(const std::string& topic, Message& event);
  uint64_t last_event(const std::string& topic) const;  // 0: there was none yet

 private:
  bool send(const Asker& asker, const Message& message, const std::vector<int>& fds);

  ControlServer& control_;
  SendToLink send_to_link_;
  std::map<std::string, std::optional<Message>> answered_;  // client + request id -> final answer
  std::deque<std::string> order_;
  std::map<std::string, uint64_t> events_;
};

}  // namespace polykv
