// A team covers every item once, whatever its size, and can be used again and again.
#include "model/threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

namespace polykv {
namespace {

TEST(ThreadTeam, CoversEveryItemOnceOnTheGrainsGrid) {
  for (unsigned size : {1u, 2u, 3u, 7u}) {
    ThreadTeam team(size);
    EXPECT_EQ(team.size(), size);
    for (uint32_t n : {0u, 1u, 5u, 64u, 1000u}) {
      for (uint32_t grain : {1u, 3u, 16u, 2000u}) {
        std::vector<std::atomic<int>> visits(n);
        std::atomic<bool> on_grid = true;
        team.run(n, grain, [&](uint32_t begin, uint32_t end) {
          if (begin % grain != 0 || begin >= end || end > n) on_grid = false;
          for (uint32_t i = begin; i < end; ++i) ++visits[i];
        });
        EXPECT_TRUE(on_grid) << size << " threads, n " << n << " grain " << grain;
        for (uint32_t i = 0; i < n; ++i) {
          ASSERT_EQ(visits[i], 1) << size << " threads, n " << n << " grain " << grain << " item "
                                  << i;
        }
      }
    }
  }
}

// Late wakers of one run must not meet the next one's work: plain memory shows it under a
// sanitizer.
TEST(ThreadTeam, ManyShortRunsInARowLoseNothing) {
  ThreadTeam team(4);
  std::vector<uint32_t> sums(8);
  for (uint32_t round = 0; round < 5000; ++round) {
    team.run(8, 1, [&](uint32_t begin, uint32_t) { sums[begin] += round; });
  }
  for (uint32_t sum : sums) EXPECT_EQ(sum, 4999u * 5000 / 2);
}

// Whoever takes the first item comes back only when all others are done: by somebody else, among
// them those that were to be its own.
TEST(ThreadTeam, OthersDoWhatAThreadThatIsHeldUpHasLeft) {
  for (unsigned size : {2u, 3u}) {
    ThreadTeam team(size);
    for (uint32_t held_up : {0u, 7u, 15u}) {
      std::atomic<uint32_t> others = 0;
      team.run(16, 1, [&](uint32_t begin, uint32_t) {
        if (begin != held_up) {
          if (++others == 15) others.notify_all();
          return;
        }
        for (uint32_t seen; (seen = others.load()) != 15;) others.wait(seen);
      });
      EXPECT_EQ(others, 15u);
    }
  }
}

TEST(ThreadTeam, EndsWhetherOrNotItEverRan) {
  for (int i = 0; i < 200; ++i) {
    ThreadTeam idle(3);
    ThreadTeam used(3);
    std::atomic<int> calls = 0;
    used.run(3, 1, [&](uint32_t, uint32_t) { ++calls; });
    ASSERT_EQ(calls, 3);
  }
}

}  // namespace
}  // namespace polykv
