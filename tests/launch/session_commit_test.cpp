// A turn becomes the next version if it was computed directly on the current one, and only then.
#include <gtest/gtest.h>

#include <csignal>

#include "tests/launch/fake_runtime.h"

namespace polykv {
namespace {

using testing::expect_error;

class SessionCommit : public testing::FakeRuntime {
 protected:
  // A finished generation's id: its answer is its prompt.
  std::string finished(const std::string& prompt, const std::string& agent = "") {
    const std::string id = sent(request(prompt, agent));
    Message message = next(id);
    while (message.type() == "token") message = next(id);
    EXPECT_EQ(message.type(), "done") << message.dump();
    return id;
  }

  static Message commit_of(const std::string& id) { return Message("commit").set("request", id); }
  Result<Message> commit(const std::string& id) { return client().ask(commit_of(id)); }

  Message pool() { return status().objects("pools").at(0); }

  void expect_refused(const std::string& prompt, ErrorCode code,
                      std::initializer_list<std::string> words) {
    expect_error(commit(finished(prompt)), code, words);
    EXPECT_EQ(pool().integer("version"), 1);
    expect_answer("the agent works on");
  }
};

TEST_F(SessionCommit, turn_is_the_next_version_without_a_prefill) {
  start_with_agents(2);
  const std::string id = finished("an answer", "a02");
  const auto committed = commit(id);
  ASSERT_TRUE(committed) << committed.error().message;
  EXPECT_EQ(committed->type(), "committed");
  EXPECT_EQ(committed->text("pool"), "main");
  EXPECT_EQ(committed->text("agent"), "a02");
  EXPECT_EQ(committed->integer("version"), 2);
  EXPECT_EQ(committed->integer("turn_tokens"), 9);
  EXPECT_EQ(committed->integer("tokens"), 10 + 9);
  EXPECT_EQ(committed->integer("segments"), 2);
  EXPECT_EQ(committed->integer("prefill_tokens"), 0);
  EXPECT_GT(committed->id("inode"), 0u);
  EXPECT_EQ(pool().integer("version"), 2);
  EXPECT_EQ(client().ask(request("hello"))->integer("version"), 2);
}

TEST_F(SessionCommit, turns_follow_each_other) {
  start_with_agents(1);
  for (int version = 2; version < 6; ++version) {
    const auto committed = commit(finished("an answer"));
    ASSERT_TRUE(committed) << committed.error().message;
    EXPECT_EQ(committed->integer("version"), version);
    EXPECT_EQ(committed->integer("segments"), version);
  }
}

TEST_F(SessionCommit, append_after_a_commit_extends_it) {
  start_with_agents(1);
  ASSERT_TRUE(commit(finished("an answer")));
  const auto ready = append("main", " and more");
  ASSERT_TRUE(ready) << ready.error().message;
  EXPECT_EQ(ready->integer("version"), 3);
  EXPECT_EQ(ready->integer("tokens"), 10 + 9 + 9);
}

TEST_F(SessionCommit, is_told_on_the_bus_with_the_version) {
  start_with_agents(1);
  auto bus = ControlClient::connect(runtime() + "/ctl", "listener", runtime() + "/bus", {"pool"});
  ASSERT_TRUE(bus) << bus.error().message;
  std::string last;
  for (int i = 0; last != "committed"; ++i) {  // again, should the subscription be late
    ASSERT_TRUE(commit(finished("an answer")));
    std::string before;
    while (true) {
      auto message = bus->receive(100, guard());
      ASSERT_TRUE(message);
      if (!*message) break;
      before = std::exchange(last, (*message)->type());
      if (last == "committed") {
        EXPECT_EQ(before, "pool_ready");
        EXPECT_EQ((*message)->integer("version"), i + 2);
        break;
      }
    }
  }
}

TEST_F(SessionCommit, version_that_is_not_current_any_more_is_a_conflict_with_both_numbers) {
  start_with_agents(1);
  const std::string id = finished("an answer");
  ASSERT_TRUE(append("main", " and more"));
  const auto refused = commit(id);
  expect_error(refused, ErrorCode::conflict, {"version 1", "is 2", "append"});
  EXPECT_EQ(refused.error().value, "1");
  EXPECT_EQ(refused.error().limit, "2");
}

TEST_F(SessionCommit, committed_turn_is_not_committed_again) {
  start_with_agents(1);
  const std::string id = finished("an answer");
  ASSERT_TRUE(commit(id));
  expect_error(commit(id), ErrorCode::conflict, {"version 1", "is 2"});
  EXPECT_EQ(pool().integer("version"), 2);
}

TEST_F(SessionCommit, of_two_at_once_the_first_wins_and_the_other_learns_the_version) {
  start_with_agents(2);
  const std::string first = finished("an answer", "a01"), second = finished("another", "a02");
  std::map<std::string, int> codes;
  (void)sent(commit_of(first));
  (void)sent(commit_of(second));
  for (int i = 0; i < 2; ++i) {
    auto message = client().receive();
    ASSERT_TRUE(message) << message.error().message;
    if (message->type() == "committed") {
      EXPECT_EQ(message->integer("version"), 2);
      ++codes["committed"];
    } else {
      ++codes[message->text("code")];
      EXPECT_EQ(message->text("limit"), "2");
    }
  }
  EXPECT_EQ(codes, (std::map<std::string, int>{{"committed", 1}, {"conflict", 1}}));
  EXPECT_EQ(pool().integer("version"), 2);
}

TEST_F(SessionCommit, agent_that_has_answered_another_request_has_no_turn_to_give) {
  start_with_agents(1);
  const std::string id = finished("an answer");
  expect_answer("another");
  expect_error(commit(id), ErrorCode::conflict, {"a01", "another request", "append"});
}

TEST_F(SessionCommit, turn_of_an_agent_that_has_ended_is_gone) {
  start_with_agents(2);
  const std::string id = finished("an answer", "a01");
  sent(request("die", "a01"));
  while (agent_status("a01").text("state") != "ended") {
  }
  expect_error(commit(id), ErrorCode::conflict, {"a01"});
}

TEST_F(SessionCommit, requests_that_have_no_turn_are_refused) {
  start_with_agents(1);
  expect_error(commit("nothing"), ErrorCode::usage, {"'nothing'"});
  const std::string running = sent(request("hang"));
  EXPECT_EQ(next(running).type(), "token");
  expect_error(commit(running), ErrorCode::usage, {"not ended"});
  sent(Message("cancel").set("request", running));
}

TEST_F(SessionCommit, nobody_commits_another_clients_turn) {
  start_with_agents(1);
  const std::string id = finished("an answer");
  auto other = Client::connect(runtime(), guard());
  ASSERT_TRUE(other) << other.error().message;
  expect_error(other->ask(commit_of(id)), ErrorCode::usage, {"no finished generation"});
}

TEST_F(SessionCommit, pool_that_was_dropped_takes_no_turn) {
  start_with_agents(1);
  const std::string id = finished("an answer");
  ASSERT_TRUE(client().ask(Message("pool_drop").set("pool", "main")));
  expect_error(commit(id), ErrorCode::version_gone, {"'main'"});
  ASSERT_TRUE(make_pool("main", "a document"));
  expect_error(commit(id), ErrorCode::conflict, {"version 1"});
}

TEST_F(SessionCommit, writer_that_stands_still_is_not_needed) {
  start_with_agents(1);
  const auto writer = static_cast<pid_t>(model().integer("writer_pid"));
  ASSERT_EQ(::kill(writer, SIGSTOP), 0);
  EXPECT_TRUE(commit(finished("an answer")));
  EXPECT_TRUE(commit(finished("another")));
  ASSERT_EQ(::kill(writer, SIGCONT), 0);
  EXPECT_EQ(append("main", " and more")->integer("version"), 4);
}

TEST_F(SessionCommit, append_that_ends_after_a_commit_was_first_is_refused) {
  start_with_agents(1);
  const std::string id = finished("an answer");
  const auto writer = static_cast<pid_t>(model().integer("writer_pid"));
  ASSERT_EQ(::kill(writer, SIGSTOP), 0);
  const std::string append = sent(Message("append").set("pool", "main").set("text", " more"));
  ASSERT_TRUE(commit(id));
  ASSERT_EQ(::kill(writer, SIGCONT), 0);
  Message answer = next(append);
  while (answer.type() == "progress") answer = next(append);
  EXPECT_EQ(answer.text("code"), "conflict") << answer.dump();
  EXPECT_NE(answer.text("message").find("now version 2"), std::string::npos) << answer.dump();
  EXPECT_EQ(pool().integer("version"), 2);
}

TEST_F(SessionCommit, bad_turns_are_refused_and_change_nothing) {
  start_with_agents(1);
  expect_refused("other prefix", ErrorCode::bad_segment, {"prefix"});
  expect_refused("other provenance", ErrorCode::bad_segment, {"provenance"});
  expect_refused("other codec", ErrorCode::bad_segment, {"f16", "k4v4"});
  expect_refused("other memory", ErrorCode::bad_message, {"memory"});
  expect_refused("spoiled", ErrorCode::bad_segment, {"checksum"});
  expect_refused("encode fails", ErrorCode::context_too_long, {"too long a turn"});
}

TEST_F(SessionCommit, agent_that_dies_over_it_fails_the_commit_by_name) {
  start_with_agents(2);
  expect_error(commit(finished("encode dies", "a01")), ErrorCode::agent_lost, {"a01"});
  EXPECT_EQ(pool().integer("version"), 1);
  expect_answer("hello");
}

TEST_F(SessionCommit, deadline_and_cancel_end_a_commit) {
  start_with_agents(2);
  const std::string first = finished("encode hangs", "a01");
  expect_error(client().ask(commit_of(first).set("deadline_seconds", 0.05)), ErrorCode::timed_out,
               {"0.05 s"});
  EXPECT_EQ(agent_status("a01").text("state"), "encoding");
  const std::string id = sent(commit_of(finished("encode hangs", "a02")));
  while (agent_status("a02").text("state") != "encoding") {
  }
  sent(Message("cancel").set("request", id));
  EXPECT_EQ(next(id).text("code"), "cancelled");
}

// What a writer hands over has to say what it was computed on, too.
TEST_F(SessionCommit, prefilled_segment_of_another_prefix_is_refused) {
  start_with_agents(1);
  expect_error(append("main", "other prefix"), ErrorCode::bad_segment, {"prefix"});
  EXPECT_EQ(pool().integer("version"), 1);
}

}  // namespace
}  // namespace polykv
