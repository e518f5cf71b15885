// Answers, and which were given.
#include "launch/replies.h"

namespace polykv {
namespace {

constexpr size_t kAnswersKept = 1024;  // final answers, so that a repeated request is not run twice

std::string key_of(const Asker& asker) { return asker.client + '\n' + asker.request; }

}  // namespace

bool Replies::is_new(const Asker& asker) {
  const auto [known, is_new] = answered_.emplace(key_of(asker), std::nullopt);
  if (!is_new) {
    if (known->second) (void)control_.send(asker.client, *known->second);
    return false;
  }
  order_.push_back(known->first);
  while (order_.size() > kAnswersKept) {
    answered_.erase(order_.front());
    order_.pop_front();
  }
  return true;
}

void Replies::reply(const Asker& asker, Message message, const std::vector<int>& fds) {
  if (!asker.request.empty()) message.set("id", asker.request);
  if (asker.link == 0 && !asker.request.empty()) {
    const auto known = answered_.find(key_of(asker));
    if (known != answered_.end()) known->second = message;
  }
  (void)send(asker, message, fds);
}

bool Replies::part(const Asker& asker, Message message, const std::vector<int>& fds) {
  message.set("id", asker.request);
  return send(asker, message, fds);
}

bool Replies::send(const Asker& asker, const Message& message, const std::vector<int>& fds) {
  if (asker.link != 0) return send_to_link_(asker.link, message, fds);
  return control_.send(asker.client, message);
}

void Replies::announce(const std::string& topic, Message& event) {
  event.set_id("seq", ++events_[topic]);
  control_.publish(topic, event);
}

uint64_t Replies::last_event(const std::string& topic) const {
  const auto found = events_.find(topic);
  return found == events_.end() ? 0 : found->second;
}

}  // namespace polykv
