// Pools and pins that end by themselves, by a clock that is set by hand.
#include <gtest/gtest.h>

#include "tests/launch/clock_runtime.h"

namespace polykv {
namespace {

using testing::expect_error;

class SessionTtl : public testing::ClockRuntime {
 protected:
  void SetUp() override { start(clock_options()); }

  std::vector<int64_t> versions(const std::string& name) {
    std::vector<int64_t> numbers;
    for (const Message& version : pool(name).objects("versions")) {
      numbers.push_back(version.integer("version"));
    }
    return numbers;
  }
};

TEST_F(SessionTtl, pool_that_nobody_leases_or_asks_for_is_dropped_when_its_time_is_over) {
  ASSERT_TRUE(create("brief", "a document", 10) && create("main"));
  EXPECT_EQ(pool("brief").integer("ttl_seconds"), 10);
  EXPECT_FALSE(pool("main").has("ttl_seconds"));
  pass_seconds(9);
  EXPECT_EQ(pools(), "brief main");
  pass_seconds(1);
  EXPECT_EQ(pools(), "main");
  expect_error(append("brief", "more"), ErrorCode::version_gone, {"no pool 'brief'"});
  const auto again = create("brief");
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->integer("version"), 2) << "no version number is given out twice";
  pass_seconds(1000);
  EXPECT_EQ(pools(), "brief main") << "the new one was given no time";
}

TEST_F(SessionTtl, end_of_a_pool_is_told_on_the_bus) {
  ControlClient listener = listen();
  ASSERT_TRUE(create("brief", "a document", 10));
  EXPECT_EQ(event(listener).type(), "pool_ready");
  pass_seconds(10);
  EXPECT_EQ(pools(), "");
  const Message dropped = event(listener);
  EXPECT_EQ(dropped.type(), "pool_dropped");
  EXPECT_EQ(dropped.text("pool"), "brief");
  EXPECT_EQ(dropped.text("model"), "main");
  EXPECT_EQ(dropped.text("reason"), "expired");
  EXPECT_EQ(dropped.integer("version"), 1);
  EXPECT_EQ(dropped.id("seq"), status().id("seq"));
}

TEST_F(SessionTtl, every_request_that_names_the_pool_counts) {
  ASSERT_TRUE(create("brief", "a document", 10));
  for (const Message& request :
       {Message("append").set("pool", "brief").set("text", "more"),
        Message("pool_fork").set("pool", "brief").set("to", "copy"),
        Message("pool_pin").set("pool", "brief").set("version", 1),
        Message("pool_unpin").set("pool", "brief").set("version", 1),
        Message("generate").set("pool", "brief").set("prompt", "?").set("max_tokens", 1)}) {
    pass_seconds(9);
    (void)client().ask(request);
    EXPECT_EQ(pool("brief").number("idle_seconds"), 0.0) << request.type();
  }
  pass_seconds(10);
  EXPECT_EQ(pools(), "copy") << "a fork has its own time, or none";
}

TEST_F(SessionTtl, lease_keeps_a_pool_and_the_time_counts_from_its_end) {
  ASSERT_TRUE(create("main", "a document", 10));
  ASSERT_TRUE(start_agents(client(), "main", 1));
  pass_seconds(1000);
  EXPECT_EQ(pool("main").number("idle_seconds"), 0.0);
  ASSERT_TRUE(client().ask(Message("agents_stop")));
  while (pool("main").integer("leases") > 0 && !HasFailure()) {
  }
  pass_seconds(9);
  EXPECT_EQ(pool("main").number("idle_seconds"), 9.0);
  pass_seconds(1);
  EXPECT_EQ(pools(), "");
}

TEST_F(SessionTtl, snapshot_does_not_count_as_a_request) {
  ASSERT_TRUE(create("main"));
  pass_seconds(3);
  EXPECT_EQ(pool("main").number("idle_seconds"), 3.0);
  pass_seconds(4);
  EXPECT_EQ(pool("main").number("idle_seconds"), 7.0);
}

TEST_F(SessionTtl, pin_keeps_its_pool_and_lapses) {
  ASSERT_TRUE(create("main", "a document", 10));
  ASSERT_TRUE(pool_request("pool_pin", "main", 100));
  ASSERT_TRUE(append("main", "more"));
  pass_seconds(99);
  EXPECT_EQ(versions("main"), (std::vector<int64_t>{1, 2}));
  pass_seconds(1);
  EXPECT_EQ(versions("main"), std::vector<int64_t>{2});
  pass_seconds(10);
  EXPECT_EQ(pools(), "");
}

TEST_F(SessionTtl, pinned_again_means_for_as_long_as_was_said_last) {
  ASSERT_TRUE(create("main"));
  ASSERT_TRUE(pool_request("pool_pin", "main", 10));
  ASSERT_TRUE(pool_request("pool_pin", "main", 100));
  ASSERT_TRUE(append("main", "more"));
  pass_seconds(99);
  EXPECT_EQ(versions("main").size(), 2U);
  ASSERT_TRUE(client().ask(Message("pool_pin").set("pool", "main").set("version", 1)));
  pass_seconds(1'000'000);
  EXPECT_EQ(versions("main").size(), 2U) << "without a time it stays";
}

TEST_F(SessionTtl, time_of_a_pin_that_was_taken_off_is_nothing_to_a_later_one) {
  ASSERT_TRUE(create("main"));
  ASSERT_TRUE(pool_request("pool_pin", "main", 10));
  ASSERT_TRUE(client().ask(Message("pool_unpin").set("pool", "main").set("version", 1)));
  ASSERT_TRUE(pool_request("pool_pin", "main"));
  ASSERT_TRUE(pool_request("pool_drop", "main"));
  ASSERT_TRUE(create("main") && pool_request("pool_pin", "main"));
  pass_seconds(1000);
  EXPECT_TRUE(pool("main").objects("versions").at(0).flag("pinned"));
}

TEST_F(SessionTtl, fork_has_a_time_of_its_own) {
  ASSERT_TRUE(create("main") && fork("main", "draft", 10));
  pass_seconds(10);
  EXPECT_EQ(pools(), "main");
}

}  // namespace
}  // namespace polykv
