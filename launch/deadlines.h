// Timers of an event loop: points in time and what to do then. The loop asks how long it may sleep,
// and runs what is due when it wakes. The clock can be set by hand, so that tests need no sleeps.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string_view>
#include <utility>

#include "ipc/result.h"

namespace polykv {

// How long a request may take that does not say it.
inline constexpr double kDeadlineSeconds = 3600;
// Of a request that was not done by then; what: follows "the deadline of 5 s is over".
Error deadline_over(double seconds, std::string_view what);

using SteadyTime = std::chrono::steady_clock::time_point;
using SteadyClock = std::function<SteadyTime()>;

class Deadlines {
 public:
  // 0 is never given out: it may stand for "no timer".
  using Timer = uint64_t;

  explicit Deadlines(SteadyClock clock = {});  // empty: the machine's

  SteadyTime now() const { return clock_(); }
  Timer at(SteadyTime when, std::function<void()> action);
  Timer after(double seconds, std::function<void()> action);
  // One that has run, or never was, is no fault.
  void cancel(Timer timer);

  // For poll(): milliseconds until the first one, rounded up; -1 = there is none.
  int poll_timeout_ms() const;
  // Runs what is due, earliest first. An action may set and cancel timers; one that it sets for now
  // waits for the next call.
  void run_due();

 private:
  SteadyClock clock_;
  Timer last_ = 0;
  std::map<std::pair<SteadyTime, Timer>, std::function<void()>> timers_;
  std::map<Timer, SteadyTime> times_;
};

}  // namespace polykv
