// A supervisor whose agents die, hang and are cancelled: each request's fate is its own.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "tests/launch/fake_runtime.h"

namespace polykv {
namespace {

using testing::expect_error;
using testing::fake_options;

class SessionAgent : public testing::FakeRuntime {
 protected:
  // A request that runs on the agent from here on, until it is cancelled.
  std::string running(const std::string& agent) {
    const std::string id = sent(request("hang", agent));
    EXPECT_EQ(next(id).type(), "token");
    return id;
  }

  // Sends a cancel; what comes back to the request itself is for the caller.
  void cancel(const std::string& id) { sent(Message("cancel").set("request", id)); }

  void expect_lost(const Message& message, const std::string& agent, int64_t pid) {
    ASSERT_EQ(message.type(), "error");
    EXPECT_EQ(message.text("code"), "agent_lost");
    EXPECT_EQ(message.text("agent"), agent);
    EXPECT_EQ(message.integer("pid"), pid);
    EXPECT_NE(message.text("message").find(cat("agent ", agent, " (pid ", pid, ")")),
              std::string::npos)
        << message.text("message");
    EXPECT_NE(message.text("message").find("signal 9"), std::string::npos);
  }
};

TEST_F(SessionAgent, each_agent_answers_from_a_process_of_its_own) {
  start_with_agents(3);
  std::set<int64_t> pids;
  for (const char* agent : {"a01", "a02", "a03"}) {
    const auto done = client().ask(request(cat("hello ", agent), agent));
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_EQ(done->text("agent"), agent);
    EXPECT_EQ(done->text("text"), cat("hello ", agent));
    EXPECT_EQ(done->number("attach_ms"), 1.5);
    EXPECT_EQ(done->integer("pid"), agent_status(agent).integer("pid"));
    pids.insert(done->integer("pid"));
  }
  EXPECT_EQ(pids.size(), 3u);
}

TEST_F(SessionAgent, more_questions_than_agents_are_all_answered) {
  start_with_agents(2);
  std::vector<std::string> ids;
  for (int i = 0; i < 20; ++i) ids.push_back(sent(request(cat("question ", i))));
  std::map<std::string, std::string> texts;
  while (texts.size() < ids.size()) {
    const auto message = client().receive();
    ASSERT_TRUE(message) << message.error().message;
    if (message->type() == "token") continue;
    ASSERT_EQ(message->type(), "done");
    texts[message->text("id")] = message->text("text");
  }
  for (size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(texts[ids[i]], cat("question ", i));
}

TEST_F(SessionAgent, death_in_an_answer_is_told_by_name_and_pid_and_disturbs_no_other) {
  start_with_agents(2);
  const int64_t pid = agent_status("a01").integer("pid");
  const std::string other = running("a02");
  expect_lost(next(sent(request("die", "a01"))), "a01", pid);
  const Message ended = agent_status("a01");
  EXPECT_EQ(ended.text("state"), "ended");
  EXPECT_NE(ended.text("last_error").find("signal 9"), std::string::npos);
  EXPECT_EQ(agent_status("a02").text("state"), "busy");
  cancel(other);
  const Message done = next(other);
  EXPECT_EQ(done.type(), "done");
  EXPECT_EQ(done.text("text"), "on and ");
}

TEST_F(SessionAgent, requests_that_only_the_dead_agent_could_run_fail_and_later_ones_at_once) {
  start_with_agents(2);
  const int64_t pid = agent_status("a01").integer("pid");
  const std::string first = sent(request("die", "a01"));
  const std::string waiting = sent(request("hello", "a01"));
  expect_lost(next(first), "a01", pid);
  const Message second = next(waiting);
  EXPECT_EQ(second.type(), "error");
  EXPECT_EQ(second.text("code"), "agent_lost");
  expect_error(client().ask(request("hello", "a01")), ErrorCode::agent_lost, {"'a01'", "ended"});
  expect_answer("hello");
}

TEST_F(SessionAgent, nobody_left_means_that_nobody_waits_for_ever) {
  start_with_agents(1);
  const std::string first = sent(request("die"));
  const std::string waiting = sent(request("hello"));
  EXPECT_EQ(next(first).text("code"), "agent_lost");
  EXPECT_EQ(next(waiting).text("code"), "agent_lost");
  expect_error(client().ask(request("hello")), ErrorCode::agent_lost, {"no agent is running"});
}

TEST_F(SessionAgent, restarted_agent_takes_up_what_waited_for_it) {
  SupervisorOptions options = fake_options();
  options.restart_agents = true;
  start_with_agents(1, options);
  const int64_t pid = agent_status("a01").integer("pid");
  const std::string first = sent(request("die", "a01"));
  const std::string waiting = sent(request("hello", "a01"));
  expect_lost(next(first), "a01", pid);
  Message done = next(waiting);
  while (done.type() == "token") done = next(waiting);
  ASSERT_EQ(done.type(), "done") << done.dump();
  EXPECT_EQ(done.text("text"), "hello");
  EXPECT_NE(done.integer("pid"), pid);
  EXPECT_EQ(agent_status("a01").integer("restarts"), 1);
}

TEST_F(SessionAgent, error_of_an_agent_is_the_answer_and_the_agent_goes_on) {
  start_with_agents(1);
  const auto failed = client().ask(request("error"));
  expect_error(failed, ErrorCode::context_too_long, {"too long"});
  EXPECT_EQ(failed.error().value, "9");
  expect_answer("hello");
}

TEST_F(SessionAgent, repeated_request_is_run_once_and_answered_alike) {
  start_with_agents(1);
  auto twice = ControlClient::connect(runtime() + "/ctl", "asks-twice");
  ASSERT_TRUE(twice) << twice.error().message;
  const auto answer_to = [&](const std::string& id) {
    EXPECT_TRUE(twice->send(request("count").set("id", id)));
    auto message = twice->receive(-1, guard());
    EXPECT_TRUE(message && *message);
    return message && *message ? **message : Message("none");
  };
  const Message first = answer_to("same");
  EXPECT_EQ(first.text("text"), "1");
  EXPECT_EQ(answer_to("same").dump(), first.dump());
  EXPECT_EQ(answer_to("another").text("text"), "2") << "the repetition was run, too";
  EXPECT_EQ(client().ask(request("count"))->text("text"), "3");
}

TEST_F(SessionAgent, request_repeated_while_it_runs_has_one_answer) {
  start_with_agents(2);
  auto twice = ControlClient::connect(runtime() + "/ctl", "asks-twice");
  ASSERT_TRUE(twice) << twice.error().message;
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(twice->send(request("hang").set("id", "same")));
  std::vector<std::string> types;
  const auto hear = [&] {
    auto message = twice->receive(-1, guard());
    ASSERT_TRUE(message && *message);
    types.push_back((*message)->type());
  };
  hear();
  ASSERT_TRUE(twice->send(Message("cancel").set("request", "same").set("id", "c")));
  while (types.back() != "done") ASSERT_NO_FATAL_FAILURE(hear());
  ASSERT_TRUE(twice->send(Message("status").set("id", "s")));
  while (types.back() != "snapshot") ASSERT_NO_FATAL_FAILURE(hear());
  EXPECT_EQ(std::ranges::count(types, "done"), 1);
  EXPECT_EQ(std::ranges::count(types, "token"), 1);
  EXPECT_EQ(agent_status("a02").text("state"), "idle");
}

TEST_F(SessionAgent, client_that_vanishes_while_text_streams_frees_its_agent) {
  start_with_agents(1);
  {
    auto vanishing = Client::connect(runtime(), guard());
    ASSERT_TRUE(vanishing) << vanishing.error().message;
    ASSERT_TRUE(vanishing->send(request("stream")));
    const auto part = vanishing->receive();
    ASSERT_TRUE(part) << part.error().message;
    EXPECT_EQ(part->type(), "token");
  }
  expect_answer("the next one");
}

TEST_F(SessionAgent, waiting_request_is_cancelled_before_it_starts) {
  start_with_agents(1);
  const std::string first = running("a01");
  const std::string waiting = sent(request("hello"));
  cancel(waiting);
  const Message cancelled = next(waiting);
  EXPECT_EQ(cancelled.text("code"), "cancelled");
  EXPECT_NE(cancelled.text("message").find("before it started"), std::string::npos);
  cancel(first);
  EXPECT_EQ(next(first).text("reason"), "cancelled");
  expect_answer("the next one");
}

TEST_F(SessionAgent, nobody_cancels_another_clients_request) {
  start_with_agents(1);
  const std::string first = running("a01");
  auto other = Client::connect(runtime(), guard());
  ASSERT_TRUE(other) << other.error().message;
  EXPECT_TRUE(other->ask(Message("cancel").set("request", first)));
  EXPECT_EQ(agent_status("a01").text("state"), "busy");
  cancel(first);
  EXPECT_EQ(next(first).text("reason"), "cancelled");
}

TEST_F(SessionAgent, version_that_an_agent_holds_can_be_asked_for_after_the_next_is_there) {
  start_with_agents(1);
  ASSERT_TRUE(append("main", " and more"));
  const auto old = client().ask(request("old").set("version", 1));
  ASSERT_TRUE(old) << old.error().message;
  EXPECT_EQ(old->integer("version"), 1);
  const auto current = client().ask(request("new"));
  ASSERT_TRUE(current) << current.error().message;
  EXPECT_EQ(current->integer("version"), 2);
  expect_error(client().ask(request("none").set("version", 3)), ErrorCode::version_gone,
               {"version 3", "2 is current"});
}

TEST_F(SessionAgent, starts_that_cannot_be_are_refused) {
  start_with_agents(1);
  const auto start_count = [&](const std::string& pool, int64_t count) {
    return start_agents(client(), pool, count);
  };
  expect_error(start_count("main", 0), ErrorCode::bad_agent_count, {"0 agents", "256"});
  expect_error(start_count("main", kAgentsMax), ErrorCode::bad_agent_count, {"beside 1"});
  expect_error(start_count("none", 1), ErrorCode::version_gone, {"'none'", "main"});
  ASSERT_TRUE(make_pool("broken", "a document"));
  expect_error(start_count("broken", 2), ErrorCode::agent_lost, {"exit code 3"});
  expect_answer("the first one works on");
}

TEST_F(SessionAgent, missing_agent_program_is_told_and_nobody_waits_for_it) {
  SupervisorOptions options = fake_options();
  options.agent_program = temp("no-agent");
  start(options);
  ASSERT_TRUE(make_pool("main", "a document"));
  expect_error(start_agents(client(), "main", 1), ErrorCode::io, {temp("no-agent")});
  expect_error(client().ask(request("hello")), ErrorCode::agent_lost, {"no agent is running"});
}

TEST_F(SessionAgent, agent_that_is_stopped_ends_and_the_others_stay) {
  start_with_agents(2);
  const std::string first = running("a01");
  ASSERT_TRUE(client().ask(Message("agents_stop").set("agent", "a01")));
  Message last = next(first);
  while (last.type() == "token") last = next(first);
  EXPECT_TRUE(last.type() == "done" || last.text("code") == "agent_lost") << last.dump();
  expect_answer("hello", "a02");
  expect_error(client().ask(Message("agents_stop").set("agent", "a09")), ErrorCode::usage,
               {"'a09'"});
  while (agent_status("a01").text("state") != "ended" && !HasFailure()) {
  }
  EXPECT_EQ(agent_status("a01").text("last_error"), "stopped, as asked");
}

}  // namespace
}  // namespace polykv
