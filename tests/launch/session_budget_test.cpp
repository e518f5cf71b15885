// The budget over all pools and models: what is dropped for what, and what never is.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "tests/launch/clock_runtime.h"

namespace polykv {
namespace {

using testing::expect_error;

constexpr const char* kText = "a document";

class SessionBudget : public testing::ClockRuntime {
 protected:
  // A runtime whose budget holds as many pools of kText, and `spare` bytes more.
  void start_with_room_for(int64_t n_pools, int64_t spare = 0, int64_t n_models = 1) {
    SupervisorOptions options = clock_options();
    ASSERT_NO_FATAL_FAILURE(start(options));
    ASSERT_TRUE(create("one"));
    const int64_t first = held();
    ASSERT_TRUE(create("two"));
    bytes_ = held() - first;
    image_ = first - bytes_;
    (void)session().stop();
    options.budget = static_cast<uint64_t>(n_models * image_ + n_pools * bytes_ + spare);
    if (n_models == 2) options.models.push_back({"other", "/model/other"});
    ASSERT_NO_FATAL_FAILURE(start(options));
  }

  // One after the other, so that it is known which was used last.
  void create_all(std::initializer_list<const char*> names) {
    for (const char* name : names) {
      ASSERT_TRUE(create(name)) << name;
      pass_seconds(1);
    }
  }
  int64_t evicted() { return status().integer("evicted_pools"); }

  int64_t bytes_ = 0;  // of a pool of kText
  int64_t image_ = 0;
};

TEST_F(SessionBudget, pool_that_was_unused_for_longest_makes_room) {
  start_with_room_for(3);
  create_all({"a", "b", "c"});
  EXPECT_EQ(evicted(), 0) << "to the byte";
  ASSERT_TRUE(pool_request("pool_pin", "a"));  // used
  ASSERT_TRUE(client().ask(Message("pool_unpin").set("pool", "a").set("version", 1)));
  ASSERT_TRUE(create("d"));
  EXPECT_EQ(pools(), "a c d");
  EXPECT_EQ(evicted(), 1);
  EXPECT_LE(held(), status().integer("budget_bytes"));
}

TEST_F(SessionBudget, eviction_is_told_on_the_bus_before_the_new_pool_is) {
  start_with_room_for(1);
  ControlClient listener = listen();
  ASSERT_TRUE(create("a"));
  EXPECT_EQ(event(listener).type(), "pool_ready");
  ASSERT_TRUE(create("b"));
  const Message dropped = event(listener);
  EXPECT_EQ(dropped.text("pool"), "a");
  EXPECT_EQ(dropped.text("reason"), "evicted");
  EXPECT_EQ(event(listener).text("pool"), "b");
}

TEST_F(SessionBudget, append_makes_room_too_but_never_of_its_own_pool) {
  start_with_room_for(2, sizeof(ManifestHeader) + 2 * sizeof(ManifestSpan));
  create_all({"a", "b"});
  ASSERT_TRUE(append("a", kText));
  EXPECT_EQ(pools(), "a");
  expect_error(append("a", std::string(60, 'x')), ErrorCode::memory_limit, {"pool a"});
  EXPECT_EQ(pools(), "a");
}

TEST_F(SessionBudget, refusal_names_every_agent_and_every_pin) {
  start_with_room_for(2);
  create_all({"leased", "pinned"});
  ASSERT_TRUE(start_agents(client(), "leased", 2));
  ASSERT_TRUE(pool_request("pool_pin", "pinned"));
  const auto refused = create("more");
  expect_error(
      refused, ErrorCode::memory_limit,
      {"budget", "model image", "pool leased", "held by a01, a02", "pool pinned", "pinned: 1"});
  EXPECT_EQ(refused.error().limit, "0");
  EXPECT_EQ(pools(), "leased pinned");
  EXPECT_EQ(evicted(), 0);
}

TEST_F(SessionBudget, nothing_is_dropped_for_what_would_not_fit_anyway) {
  start_with_room_for(3);
  create_all({"a", "b"});
  expect_error(create("huge", std::string(100, 'x')), ErrorCode::memory_limit,
               {"pool a", "pool b"});
  EXPECT_EQ(pools(), "a b");
  EXPECT_EQ(evicted(), 0);
}

TEST_F(SessionBudget, fork_that_shares_the_memory_of_a_leased_pool_is_not_dropped_in_vain) {
  start_with_room_for(2, sizeof(ManifestHeader) + sizeof(ManifestSpan));
  create_all({"main"});
  ASSERT_TRUE(fork("main", "fork"));
  ASSERT_TRUE(start_agents(client(), "main", 1));
  create_all({"a"});
  ASSERT_TRUE(create("b"));
  EXPECT_EQ(pools(), "b fork main") << "the fork is older, but its end would free next to nothing";
}

TEST_F(SessionBudget, pool_and_its_fork_are_both_dropped_when_only_that_frees_their_memory) {
  start_with_room_for(1, sizeof(ManifestHeader) + sizeof(ManifestSpan));
  create_all({"main"});
  ASSERT_TRUE(fork("main", "fork"));
  ASSERT_TRUE(create("new"));
  EXPECT_EQ(pools(), "new");
  EXPECT_EQ(evicted(), 2);
}

TEST_F(SessionBudget, is_one_over_all_models) {
  start_with_room_for(1, 0, 2);
  ASSERT_TRUE(create("main"));
  Message request("pool_create");
  request.set("pool", "main").set("codec", "k4v4").set("text", kText).set("model", "other");
  ASSERT_TRUE(client().ask(request));
  EXPECT_EQ(pool("main").text("model"), "other");
  EXPECT_EQ(pools(), "main");
}

TEST_F(SessionBudget, what_one_writer_makes_is_not_promised_to_another) {
  const std::string fifo = temp("fifo");
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  const std::string slow = "wait:" + fifo;
  ASSERT_LT(slow.size(), 100U);
  start_with_room_for(10, 0, 2);
  Message request("pool_create");
  request.set("pool", "slow").set("codec", "k4v4").set("text", slow);
  const std::string id = sent(request);
  ASSERT_EQ(next(id).type(), "progress");
  Message others("pool_create");
  others.set("codec", "k4v4").set("text", kText).set("model", "other");
  Result<Message> last = Message("none");
  int64_t made = 0;
  while ((last = client().ask(others.set("pool", cat("p", made)).renamed("pool_create"))) &&
         made < 20) {
    ASSERT_TRUE(
        client().ask(Message("pool_pin").set("pool", cat("p", made++)).set("model", "other")));
  }
  expect_error(last, ErrorCode::memory_limit, {"budget"});
  EXPECT_LT(made, 10) << "the tenth pool's memory is promised to the slow one";
  std::ofstream(fifo).close();
  EXPECT_EQ(next(id).type(), "pool_ready");
  EXPECT_LE(held(), status().integer("budget_bytes"));
}

// As long as kText, but the segment that comes is larger than a segment of kText.
TEST_F(SessionBudget, planes_that_turn_out_hard_are_counted_and_have_to_fit) {
  start_with_room_for(2);
  create_all({"a"});
  EXPECT_EQ(pool("a").integer("widened_planes", -1), 0);
  ASSERT_TRUE(pool_request("pool_pin", "a"));
  expect_error(create("hard", "hard keys!"), ErrorCode::memory_limit, {"budget", "pool a"});
  EXPECT_EQ(pools(), "a") << "nothing half published";
  ASSERT_TRUE(client().ask(Message("pool_unpin").set("pool", "a").set("version", 1)));
  const auto ready = create("hard", "hard keys!");
  ASSERT_TRUE(ready) << ready.error().message;
  EXPECT_EQ(ready->integer("widened_planes"), 2);
  EXPECT_EQ(pools(), "hard") << "what was unused made room for it";
  EXPECT_EQ(pool("hard").integer("widened_planes"), 2);
  EXPECT_GT(pool("hard").integer("bytes"), bytes_);
  EXPECT_LE(held(), status().integer("budget_bytes"));
}

TEST_F(SessionBudget, commit_makes_room_as_an_append_does_and_is_refused_where_there_is_none) {
  start_with_room_for(2);
  create_all({"main", "idle"});
  ASSERT_TRUE(start_agents(client(), "main", 1));
  const auto finished = [&] {
    const std::string id = sent(request("an answer"));
    Message message = next(id);
    while (message.type() == "token") message = next(id);
    return id;
  };
  ASSERT_TRUE(client().ask(Message("commit").set("request", finished())));
  EXPECT_EQ(pools(), "main");
  EXPECT_EQ(evicted(), 1);
  EXPECT_LE(held(), status().integer("budget_bytes"));
  expect_error(client().ask(Message("commit").set("request", finished())), ErrorCode::memory_limit,
               {"budget", "held by a01"});
  expect_answer("hello");
}

}  // namespace
}  // namespace polykv
