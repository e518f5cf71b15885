// A small timer queue.
#include "launch/deadlines.h"

#include <algorithm>
#include <limits>

namespace polykv {
namespace {

constexpr double kLongest = 1e9;  // 31 years: far from the clock's end

}  // namespace

Error deadline_over(double seconds, std::string_view what) {
  return {
      ErrorCode::timed_out, cat("the deadline of ", seconds, " s is over", what), cat(seconds), {}};
}

Deadlines::Deadlines(SteadyClock clock)
    : clock_(clock ? std::move(clock) : [] { return std::chrono::steady_clock::now(); }) {}

Deadlines::Timer Deadlines::at(SteadyTime when, std::function<void()> action) {
  const Timer timer = ++last_;
  timers_.emplace(std::pair(when, timer), std::move(action));
  times_.emplace(timer, when);
  return timer;
}

Deadlines::Timer Deadlines::after(double seconds, std::function<void()> action) {
  const std::chrono::duration<double> wait(std::clamp(seconds, 0.0, kLongest));
  return at(now() + std::chrono::ceil<std::chrono::nanoseconds>(wait), std::move(action));
}

void Deadlines::cancel(Timer timer) {
  const auto found = times_.find(timer);
  if (found == times_.end()) return;
  timers_.erase({found->second, timer});
  times_.erase(found);
}

int Deadlines::poll_timeout_ms() const {
  if (timers_.empty()) return -1;
  const auto left = timers_.begin()->first.first - now();
  const int64_t ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
  return static_cast<int>(std::clamp<int64_t>(ms, 0, std::numeric_limits<int>::max()));
}

void Deadlines::run_due() {
  const SteadyTime limit = now();
  const Timer newest = last_;
  for (auto next = timers_.begin(); next != timers_.end() && next->first.first <= limit;) {
    if (next->first.second > newest) {  // set by an action of this round
      ++next;
      continue;
    }
    const auto key = next->first;
    const std::function<void()> action = std::move(next->second);
    cancel(key.second);
    action();
    next = timers_.begin();  // the action may have changed anything
  }
}

}  // namespace polykv
