// Generations that wait for versions, run out of time, or lose their client.
#include <gtest/gtest.h>

#include <csignal>
#include <fstream>

#include "tests/launch/clock_runtime.h"

namespace polykv {
namespace {

using testing::expect_error;
using testing::fake_options;

class SessionStop : public testing::ClockRuntime {
 protected:
  // Returns once it stands still: a signal that comes before that would still end it.
  static void stand_still(pid_t pid) {
    ASSERT_EQ(::kill(pid, SIGSTOP), 0);
    std::string state;
    while (state != "T") {
      std::ifstream stat(cat("/proc/", pid, "/stat"));
      std::string id, name;
      stat >> id >> name >> state;
    }
  }
};

TEST_F(SessionStop, agent_that_does_not_listen_is_killed_after_a_while) {
  start_with_agents(2, clock_options());
  stand_still(static_cast<pid_t>(agent_status("a01").integer("pid")));
  ASSERT_TRUE(client().ask(Message("agents_stop").set("agent", "a01")));
  pass_seconds(4);
  EXPECT_EQ(agent_status("a01").text("state"), "idle");
  pass_seconds(1);
  while (agent_status("a01").text("state") != "ended") {
  }
  expect_answer("hello", "a02");
}

class SessionGeneration : public testing::FakeRuntime {
 protected:
  static Message with_deadline(Message message, double seconds) {
    return message.set("deadline_seconds", seconds);
  }

  // The last message to this request, past its tokens.
  Message end_of(const std::string& id) {
    Message message = next(id);
    while (message.type() == "token") message = next(id);
    return message;
  }

  std::string running(const std::string& prompt, const std::string& agent) {
    const std::string id = sent(request(prompt, agent));
    await_state(agent, "busy");
    return id;
  }

  void await_state(const std::string& agent, const std::string& state) {
    while (agent_status(agent).text("state") != state) {
    }
  }

  static Message conversation(const std::vector<std::pair<std::string, std::string>>& turns) {
    std::vector<Message> messages;
    for (const auto& [role, content] : turns) {
      messages.push_back(Message("chat_message").set("role", role).set("content", content));
    }
    Message message("generate");
    return message.set("pool", "main").set("max_tokens", 8).set("messages", messages);
  }
};

TEST_F(SessionGeneration, at_least_waits_until_the_version_is_there) {
  start_with_agents(1);
  const std::string id = sent(request("hello").set("at_least", 2));
  expect_answer("others go on");
  ASSERT_TRUE(append("main", " and more"));
  const Message done = end_of(id);
  ASSERT_EQ(done.type(), "done") << done.dump();
  EXPECT_EQ(done.integer("version"), 2);
  EXPECT_EQ(done.text("model"), "main");
}

TEST_F(SessionGeneration, at_least_what_is_there_already_runs_on_the_current_one) {
  start_with_agents(1);
  ASSERT_TRUE(append("main", " and more"));
  EXPECT_EQ(client().ask(request("hello").set("at_least", 1))->integer("version"), 2);
}

TEST_F(SessionGeneration, at_least_of_a_pool_that_is_dropped_fails_instead_of_waiting) {
  start_with_agents(1);
  const std::string id = sent(request("hello").set("at_least", 9));
  ASSERT_TRUE(client().ask(Message("pool_drop").set("pool", "main")));
  EXPECT_EQ(next(id).text("code"), "version_gone");
}

TEST_F(SessionGeneration, version_that_waits_for_an_agent_stays_although_nobody_leases_it) {
  start_with_agents(1);
  const std::string first = running("hang", "a01");
  const std::string second = sent(request("old"));
  ASSERT_TRUE(append("main", " and more"));
  sent(request("new"));
  sent(Message("cancel").set("request", first));
  EXPECT_EQ(end_of(first).text("reason"), "cancelled");
  EXPECT_EQ(end_of(second).integer("version"), 1);
}

TEST_F(SessionGeneration, deadline_ends_what_waits_and_says_for_what) {
  start_with_agents(1);
  const std::string first = running("hang", "a01");
  const auto waited = client().ask(with_deadline(request("hello"), 0.05));
  expect_error(waited, ErrorCode::timed_out, {"0.05 s", "idle agent"});
  EXPECT_EQ(waited.error().value, "0.05");
  expect_error(client().ask(with_deadline(request("hello").set("at_least", 7), 0)),
               ErrorCode::timed_out, {"version 7"});
  sent(Message("cancel").set("request", first));
  EXPECT_EQ(end_of(first).text("reason"), "cancelled");
  expect_answer("hello");
}

TEST_F(SessionGeneration, deadline_of_an_answer_tells_the_agent_to_stop) {
  start_with_agents(1);
  const Message error = end_of(sent(with_deadline(request("hang"), 0.05)));
  EXPECT_EQ(error.text("code"), "timed_out");
  EXPECT_EQ(error.text("agent"), "a01");
  expect_answer("the agent is free again");
}

TEST_F(SessionGeneration, agent_that_does_not_stop_at_the_deadline_stays_busy_and_says_so) {
  start_with_agents(2);
  const Message error = end_of(sent(with_deadline(request("deaf", "a01"), 0.05)));
  EXPECT_EQ(error.text("code"), "timed_out");
  EXPECT_NE(error.text("message").find("a01"), std::string::npos) << error.text("message");
  EXPECT_EQ(agent_status("a01").text("state"), "busy");
  EXPECT_NE(agent_status("a01").text("last_error").find("deadline"), std::string::npos);
  expect_answer("the other one answers");
}

TEST_F(SessionGeneration, deadline_of_starting_agents_ends_them) {
  start_with_agents(1);
  Message start("agents_start");
  start.set("pool", "main").set("count", 2);
  expect_error(client().ask(with_deadline(start, 0)), ErrorCode::timed_out, {"0 s"});
  await_state("a02", "ended");
  await_state("a03", "ended");
  expect_answer("hello");
}

TEST_F(SessionGeneration, conversation_reaches_the_agent_and_its_last_message_is_answered) {
  start_with_agents(1);
  const auto done = client().ask(
      conversation({{"user", "first"}, {"assistant", "so"}, {"user", "the last one"}}));
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->text("text"), "the last one");
}

TEST_F(SessionGeneration, conversation_with_nothing_to_answer_is_refused) {
  start_with_agents(1);
  expect_error(client().ask(conversation({})), ErrorCode::bad_text, {"empty"});
  expect_error(client().ask(conversation({{"user", "why"}, {"assistant", "so"}})),
               ErrorCode::bad_text, {"assistant"});
}

TEST_F(SessionGeneration,
       agent_that_has_rested_longest_answers_so_that_the_last_one_keeps_its_turn) {
  start_with_agents(3);
  std::vector<std::string> agents;
  for (int i = 0; i < 6; ++i) agents.push_back(client().ask(request("hello"))->text("agent"));
  EXPECT_EQ(agents, (std::vector<std::string>{"a01", "a02", "a03", "a01", "a02", "a03"}));
  EXPECT_EQ(client().ask(request("hello", "a03"))->text("agent"), "a03");
  EXPECT_EQ(client().ask(request("hello"))->text("agent"), "a01");
}

TEST_F(SessionGeneration, requests_of_a_vanished_client_are_cancelled_though_no_token_is_due) {
  start_with_agents(2);
  const std::string blocker = running("hang", "a02");
  {
    auto vanishing = Client::connect(runtime(), guard());
    ASSERT_TRUE(vanishing) << vanishing.error().message;
    ASSERT_TRUE(vanishing->send(request("hang", "a01")));
    ASSERT_TRUE(vanishing->receive());
    ASSERT_TRUE(vanishing->send(request("hello", "a02")));  // waits for the blocker
    await_state("a01", "busy");
  }
  await_state("a01", "idle");
  sent(Message("cancel").set("request", blocker));
  EXPECT_EQ(end_of(blocker).text("reason"), "cancelled");
  EXPECT_EQ(client().ask(request("count", "a02"))->text("text"), "2") << "one that nobody heard of";
}

TEST_F(SessionGeneration, births_ends_and_tokens_are_told_on_the_bus) {
  start(fake_options());
  auto bus = ControlClient::connect(runtime() + "/ctl", "listener", runtime() + "/bus", {""});
  ASSERT_TRUE(bus) << bus.error().message;
  const auto heard = [&](const std::string& type) {
    while (true) {
      auto message = bus->receive(-1, guard());
      if (!message || !*message) {
        ADD_FAILURE() << "waiting for " << type;
        return Message("none");
      }
      if ((*message)->type() == type) return **message;
    }
  };
  // Whether the subscription has arrived nobody can tell: the first event that comes through does.
  ASSERT_TRUE(make_pool("main", "a document"));
  for (int i = 0; !*bus->receive(100); ++i) ASSERT_TRUE(make_pool(cat("again", i), "a document"));
  ASSERT_TRUE(start_agents(client(), "main", 1));
  const Message born = heard("agent_born");
  EXPECT_EQ(born.text("agent"), "a01");
  EXPECT_EQ(born.text("model"), "main");
  EXPECT_EQ(born.integer("version"), 1);
  EXPECT_EQ(born.integer("pid"), agent_status("a01").integer("pid"));
  EXPECT_EQ(born.id("seq"), 1u);
  expect_answer("hello");
  const Message token = heard("token");
  EXPECT_EQ(token.text("text"), "hello");
  EXPECT_EQ(token.text("pool"), "main");
  EXPECT_EQ(token.id("seq"), 1u);
  sent(request("die"));
  const Message ended = heard("agent_ended");
  EXPECT_EQ(ended.integer("pid"), born.integer("pid"));
  EXPECT_NE(ended.text("story").find("signal 9"), std::string::npos);
  EXPECT_EQ(status().id("agent_seq"), 2u);
  EXPECT_EQ(status().id("token_seq"), 1u);
}

TEST_F(SessionGeneration, second_agent_of_a_name_is_sent_away_and_the_first_works_on) {
  start_with_agents(1);
  auto second = ControlClient::connect(runtime() + "/ctl", "agent:a01:again");
  ASSERT_TRUE(second) << second.error().message;
  Message hello("agent_hello");
  hello.set("agent", "a01").set("pid", 7).set("attach_ms", 1.0).set("kernel", "fake");
  hello.set("version", 1).set("pool", "main").set("fallbacks", std::vector<std::string>{});
  ASSERT_TRUE(second->send(hello));
  const auto refused = second->receive(-1, guard());
  ASSERT_TRUE(refused && *refused);
  EXPECT_EQ((*refused)->text("code"), "usage");
  EXPECT_NE((*refused)->text("message").find("'a01'"), std::string::npos);
  EXPECT_EQ((*second->receive(-1, guard()))->type(), "stop");
  EXPECT_NE(agent_status("a01").integer("pid"), 7);
  expect_answer("hello", "a01");
}

}  // namespace
}  // namespace polykv
