// Pools that are forked, dropped and pinned while agents and the writer work on them.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "tests/launch/fake_runtime.h"

namespace polykv {
namespace {

using testing::expect_error;

constexpr uint64_t kManifestBytes = sizeof(ManifestHeader) + sizeof(ManifestSpan);

class SessionPools : public testing::FakeRuntime {
 protected:
  Result<Message> fork(const std::string& pool, const std::string& to, int64_t version = 0) {
    Message request("pool_fork");
    if (version != 0) request.set("version", version);
    return client().ask(request.set("pool", pool).set("to", to));
  }
  Result<Message> drop(const std::string& pool) {
    return client().ask(Message("pool_drop").set("pool", pool));
  }
  Result<Message> unpin(int64_t version) {
    return client().ask(Message("pool_unpin").set("pool", "main").set("version", version));
  }

  int64_t held_bytes() { return status().integer("held_bytes"); }

  Message pool(const std::string& name) {
    for (const Message& pool : status().objects("pools")) {
      if (pool.text("pool") == name) return pool;
    }
    return Message("none");
  }

  // A pool_create that the writer works on until the fifo is opened and closed.
  std::string being_written(Message request, const std::string& fifo) {
    EXPECT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
    const std::string id = sent(request.set("text", "wait:" + fifo));
    EXPECT_EQ(next(id).type(), "progress");
    return id;
  }
  static Message create(const std::string& pool) {
    return Message("pool_create").set("pool", pool).set("codec", "k4v4");
  }
};

TEST_F(SessionPools, tell_how_they_were_prefilled_each_way_once) {
  start_with_agents(1);
  EXPECT_EQ(pool("main").text("precision"), "fast: tiles");
  ASSERT_TRUE(client().ask(Message("append").set("pool", "main").set("text", "more")));
  EXPECT_EQ(pool("main").text("precision"), "fast: tiles") << "of two segments";
  const auto ready = client().ask(create("fine").set("codec", "f16").set("text", "some text"));
  ASSERT_TRUE(ready) << ready.error().message;
  EXPECT_EQ(ready->text("precision"), "best: halves");
  ASSERT_TRUE(fork("fine", "draft"));
  EXPECT_EQ(pool("draft").text("precision"), "best: halves") << "with the memory";
}

TEST_F(SessionPools, fork_is_a_pool_with_the_same_memory) {
  start_with_agents(1);
  const Message origin = pool("main");
  const int64_t before = held_bytes();
  const auto ready = fork("main", "draft");
  ASSERT_TRUE(ready) << ready.error().message;
  EXPECT_EQ(ready->type(), "pool_ready");
  EXPECT_EQ(ready->text("pool"), "draft");
  EXPECT_EQ(ready->integer("version"), 1);
  EXPECT_EQ(ready->integer("prefill_tokens"), 0);
  for (const char* same : {"tokens", "bytes", "segments"}) {
    EXPECT_EQ(ready->integer(same), origin.integer(same)) << same;
  }
  EXPECT_EQ(held_bytes(), before + static_cast<int64_t>(kManifestBytes));
  const auto done = client().ask(request("hello").set("pool", "draft"));
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->text("pool"), "draft");
  EXPECT_EQ(done->text("text"), "hello");
}

TEST_F(SessionPools, append_to_the_fork_leaves_the_original_alone) {
  start();
  ASSERT_TRUE(make_pool("main", "a document"));
  ASSERT_TRUE(fork("main", "draft"));
  const auto grown = append("draft", " and more");
  ASSERT_TRUE(grown) << grown.error().message;
  EXPECT_EQ(grown->integer("version"), 2);
  EXPECT_EQ(grown->integer("tokens"), 19);
  EXPECT_EQ(grown->integer("prefill_tokens"), 9);
  EXPECT_EQ(pool("main").integer("version"), 1);
  EXPECT_EQ(pool("main").integer("tokens"), 10);
}

TEST_F(SessionPools, fork_that_cannot_be_is_refused_with_value_and_choices) {
  start();
  ASSERT_TRUE(make_pool("main", "a document"));
  ASSERT_TRUE(append("main", " and more"));
  const auto gone = fork("main", "draft", 1);
  expect_error(gone, ErrorCode::version_gone, {"version 1", "2 is current"});
  EXPECT_EQ(gone.error().value, "1");
  EXPECT_EQ(gone.error().limit, "2");
  expect_error(fork("none", "draft"), ErrorCode::version_gone, {"'none'", "main"});
  const auto taken = fork("main", "main");
  expect_error(taken, ErrorCode::usage, {"'main'", "exists already", "another name"});
  EXPECT_EQ(taken.error().value, "main");
  expect_error(fork("main", "a/b"), ErrorCode::usage, {"'a/b'", "letters"});
  EXPECT_EQ(status().objects("pools").size(), 1u);
}

TEST_F(SessionPools, fork_past_the_budget_is_refused) {
  start();
  ASSERT_TRUE(make_pool("main", "a document"));
  SupervisorOptions options = testing::fake_options();
  options.budget = static_cast<uint64_t>(held_bytes());
  (void)session().stop();
  start(options);
  ASSERT_TRUE(make_pool("main", "a document"));
  expect_error(fork("main", "draft"), ErrorCode::memory_limit, {"budget"});
  EXPECT_EQ(status().objects("pools").size(), 1u);
}

TEST_F(SessionPools, pool_that_is_being_written_is_neither_dropped_nor_forked_onto) {
  start();
  ASSERT_TRUE(make_pool("main", "a document"));
  std::string fifo = temp("create");
  const std::string creation = being_written(create("other"), fifo);
  expect_error(drop("other"), ErrorCode::usage, {"'other'", "being written"});
  expect_error(fork("main", "other"), ErrorCode::usage, {"'other'", "being written"});
  std::ofstream(fifo).close();
  EXPECT_EQ(next(creation).type(), "pool_ready");

  fifo = temp("append");
  const std::string growth = being_written(Message("append").set("pool", "main"), fifo);
  expect_error(drop("main"), ErrorCode::usage, {"'main'", "being written"});
  EXPECT_TRUE(fork("main", "draft")) << "the version that is there does not change";
  std::ofstream(fifo).close();
  EXPECT_EQ(next(growth).integer("version"), 2);
  EXPECT_EQ(pool("draft").integer("tokens"), 10);
}

TEST_F(SessionPools, drop_leaves_a_running_answer_alone_and_frees_the_memory_afterwards) {
  start_with_agents(1);
  ASSERT_TRUE(make_pool("other", "another document"));
  const int64_t before = held_bytes();
  const int64_t bytes = pool("main").integer("bytes");
  const std::string running = sent(request("hang"));
  ASSERT_EQ(next(running).type(), "token");

  const auto dropped = drop("main");
  ASSERT_TRUE(dropped) << dropped.error().message;
  EXPECT_EQ(dropped->type(), "pool_dropped");
  EXPECT_EQ(dropped->integer("version"), 1);
  EXPECT_EQ(dropped->integer("leases"), 1);
  EXPECT_EQ(pool("main").type(), "none");
  EXPECT_EQ(held_bytes(), before) << "an agent holds it";
  expect_error(client().ask(request("hello")), ErrorCode::version_gone, {"'main'", "other"});

  sent(Message("cancel").set("request", running));
  const Message done = next(running);
  EXPECT_EQ(done.type(), "done");
  EXPECT_EQ(done.text("text"), "on and ");
  ASSERT_TRUE(client().ask(Message("agents_stop")));
  // The lease ends with the agent: each question is a round trip, the fixture's guard ends it.
  while (held_bytes() == before && !HasFailure()) {
  }
  EXPECT_EQ(held_bytes(), before - bytes);
}

TEST_F(SessionPools, pool_of_a_dropped_name_is_another_pool_to_agents_on_the_old_one) {
  start_with_agents(1);
  ASSERT_TRUE(drop("main"));
  const auto again = make_pool("main", "another text");
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->integer("version"), 2) << "the agent's version 1 must not pass for it";
  const auto done = client().ask(request("hello"));
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->integer("version"), 2);
}

TEST_F(SessionPools, memory_of_a_dropped_pool_is_named_when_there_is_too_little) {
  SupervisorOptions options = testing::fake_options();
  start_with_agents(1);
  options.budget = static_cast<uint64_t>(held_bytes()) + 10;
  (void)session().stop();
  start_with_agents(1, options);
  ASSERT_TRUE(drop("main"));
  expect_error(make_pool("main", "a document"), ErrorCode::memory_limit,
               {"pool main (dropped)", "held by a01"});
}

TEST_F(SessionPools, drop_of_an_unknown_pool_is_refused_with_those_there_are) {
  start();
  ASSERT_TRUE(make_pool("main", "a document"));
  const auto refused = drop("mian");
  expect_error(refused, ErrorCode::version_gone, {"'mian'", "main"});
  EXPECT_EQ(refused.error().value, "mian");
  EXPECT_EQ(status().objects("pools").size(), 1u);
}

TEST_F(SessionPools, idle_agent_lets_go_of_a_dropped_pool_and_goes_back_to_its_own) {
  start_with_agents(1);
  const int64_t held = status().integer("held_bytes");
  ASSERT_TRUE(make_pool("other", "another document"));
  ASSERT_TRUE(client().ask(request("hello").set("pool", "other")));
  ASSERT_EQ(agent_status("a01").text("pool"), "other");
  ASSERT_TRUE(drop("other"));
  // The agent is on its way: its lease and its word come by two sockets, in any order.
  while (status().integer("held_bytes") > held && !HasFailure()) {
  }
  while (agent_status("a01").text("pool") != "main" && !HasFailure()) {
  }
  const auto done = client().ask(request("hello"));
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->text("agent"), "a01");
}

TEST_F(SessionPools, fork_and_drop_are_events_on_the_bus_in_order) {
  start();
  ASSERT_TRUE(make_pool("main", "a document"));
  auto listener =
      ControlClient::connect(runtime() + "/ctl", "listener", runtime() + "/bus", {"pool"});
  ASSERT_TRUE(listener) << listener.error().message;
  // A subscription takes its time to arrive: forks are made until one is heard of.
  int forks = 0;
  std::optional<Message> heard;
  while (!heard && !HasFailure()) {
    ASSERT_TRUE(fork("main", cat("draft-", ++forks)));
    auto message = listener->receive(50, guard());
    ASSERT_TRUE(message) << message.error().message;
    heard = std::move(*message);
  }
  ASSERT_EQ(heard->type(), "pool_ready");
  EXPECT_EQ(heard->text("pool").substr(0, 6), "draft-");
  uint64_t seq = heard->id("seq");
  ASSERT_TRUE(drop("main"));
  do {
    auto message = listener->receive(-1, guard());
    ASSERT_TRUE(message && *message);
    heard = std::move(*message);
    EXPECT_EQ(heard->id("seq"), ++seq);
  } while (heard->type() == "pool_ready");
  EXPECT_EQ(heard->type(), "pool_dropped");
  EXPECT_EQ(heard->text("pool"), "main");
  EXPECT_EQ(heard->integer("leases"), 0);
  EXPECT_EQ(status().id("seq"), seq);
}

TEST_F(SessionPools, pinned_version_answers_by_its_number_until_it_is_released) {
  start_with_agents(1);
  const auto pinned = client().ask(Message("pool_pin").set("pool", "main"));
  ASSERT_TRUE(pinned) << pinned.error().message;
  EXPECT_EQ(pinned->integer("version"), 1);
  EXPECT_TRUE(pool("main").objects("versions").front().flag("pinned"));
  ASSERT_TRUE(append("main", " and more"));
  for (const int64_t version : {2, 1, 2}) {  // the lease on 1 ends in between
    const auto done = client().ask(request("hello").set("version", version));
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_EQ(done->integer("version"), version);
  }
  const auto released = unpin(1);
  ASSERT_TRUE(released) << released.error().message;
  EXPECT_EQ(released->integer("version"), 1);
  EXPECT_FALSE(pool("main").objects("versions").front().flag("pinned"));
  while (pool("main").objects("versions").size() > 1 && !HasFailure()) {
  }  // the agent's lease on 1 has ended, its close may still be on its way
  expect_error(client().ask(request("hello").set("version", 1)), ErrorCode::version_gone,
               {"version 1", "2 is current"});
}

TEST_F(SessionPools, pin_and_unpin_that_cannot_be_are_refused) {
  start();
  ASSERT_TRUE(make_pool("main", "a document"));
  expect_error(client().ask(Message("pool_pin").set("pool", "main").set("version", 7)),
               ErrorCode::version_gone, {"version 7", "1 is current"});
  expect_error(client().ask(Message("pool_pin").set("pool", "none")), ErrorCode::version_gone,
               {"'none'", "main"});
  const auto refused = unpin(1);
  expect_error(refused, ErrorCode::usage, {"version 1", "not pinned"});
  EXPECT_EQ(refused.error().value, "1");
}

}  // namespace
}  // namespace polykv
