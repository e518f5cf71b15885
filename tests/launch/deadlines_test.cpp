// The timer queue of the event loop, by a clock that is set by hand.
#include "launch/deadlines.h"

#include <gtest/gtest.h>

#include <string>

namespace polykv {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

struct ByHand {
  SteadyTime now = SteadyTime(std::chrono::hours(1));
  Deadlines deadlines{[this] { return now; }};
  std::string done;

  Deadlines::Timer note(double seconds, const std::string& what) {
    return deadlines.after(seconds, [this, what] { done += what; });
  }
  void pass(nanoseconds time) {
    now += time;
    deadlines.run_due();
  }
};

TEST(Deadlines, AreRunWhenTheirTimeHasComeAndOnce) {
  ByHand at;
  at.note(2, "b");
  at.note(1, "a");
  at.pass(milliseconds(999));
  EXPECT_EQ(at.done, "");
  at.pass(milliseconds(1));
  EXPECT_EQ(at.done, "a");
  at.pass(std::chrono::hours(1));
  EXPECT_EQ(at.done, "ab");
}

TEST(Deadlines, OfOneInstantRunInTheOrderTheyWereSet) {
  ByHand at;
  at.note(1, "a");
  at.note(1, "b");
  at.pass(milliseconds(1000));
  EXPECT_EQ(at.done, "ab");
}

TEST(Deadlines, TellHowLongTheLoopMaySleep) {
  ByHand at;
  EXPECT_EQ(at.deadlines.poll_timeout_ms(), -1) << "for ever";
  const auto timer = at.note(1.5, "a");
  at.note(1e300, "far");
  EXPECT_EQ(at.deadlines.poll_timeout_ms(), 1500);
  at.pass(nanoseconds(1));
  EXPECT_EQ(at.deadlines.poll_timeout_ms(), 1500) << "rounded up: never a round too early";
  at.now += std::chrono::hours(1);
  EXPECT_EQ(at.deadlines.poll_timeout_ms(), 0);
  at.deadlines.cancel(timer);
  EXPECT_GT(at.deadlines.poll_timeout_ms(), 1000);
}

TEST(Deadlines, CancelledDoNotRun) {
  ByHand at;
  const auto timer = at.note(1, "a");
  at.note(1, "b");
  at.deadlines.cancel(timer);
  at.deadlines.cancel(timer);
  at.deadlines.cancel(0);
  at.pass(milliseconds(1000));
  EXPECT_EQ(at.done, "b");
}

TEST(Deadlines, ActionsMaySetAndCancelOthers) {
  ByHand at;
  Deadlines::Timer doomed = 0;
  at.deadlines.after(1, [&] {
    at.deadlines.cancel(doomed);
    at.note(0, "next round");
  });
  doomed = at.note(1, "doomed");
  at.pass(milliseconds(1000));
  EXPECT_EQ(at.done, "") << "what is set for now waits for the next round: no endless loop";
  at.pass(nanoseconds(0));
  EXPECT_EQ(at.done, "next round");
}

}  // namespace
}  // namespace polykv
