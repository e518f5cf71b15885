// Several generations at once on one agent process: each one's fate is its own, but the process's.
#include <gtest/gtest.h>

#include <map>
#include <thread>

#include "tests/launch/fake_runtime.h"

namespace polykv {
namespace {

using testing::expect_error;
using testing::fake_options;

SupervisorOptions with_lanes(unsigned lanes) {
  SupervisorOptions options = fake_options();
  options.agent_lanes = lanes;
  return options;
}

class SessionLanes : public testing::FakeRuntime {
 protected:
  // A request that runs from here on, until it is cancelled.
  std::string running(const std::string& agent = "") {
    const std::string id = sent(request("hang", agent));
    EXPECT_EQ(next(id).type(), "token");
    return id;
  }

  // The last message to this request, past its tokens.
  Message end_of(const std::string& id) {
    Message message = next(id);
    while (message.type() == "token") message = next(id);
    return message;
  }

  // It ends as cancelled, and nothing else of it was told before.
  void expect_cancel_ends(const std::string& id) {
    sent(Message("cancel").set("request", id));
    const Message done = end_of(id);
    EXPECT_EQ(done.type(), "done") << done.dump();
    EXPECT_EQ(done.text("reason"), "cancelled");
  }

  std::string finished(const std::string& prompt, const std::string& agent = "") {
    const std::string id = sent(request(prompt, agent));
    EXPECT_EQ(end_of(id).type(), "done");
    return id;
  }

  Result<Message> commit(const std::string& id) {
    return client().ask(Message("commit").set("request", id));
  }

  static Message group(size_t n_members, const std::string& prompt = "hello",
                       const std::string& agent = "") {
    Message member("group_member");
    member.set("prompt", prompt);
    if (!agent.empty()) member.set("agent", agent);
    Message message("group_generate");
    message.set("pool", "main").set("max_tokens", 8);
    return message.set("members", std::vector<Message>(n_members, member));
  }

  int64_t taken(const std::string& agent) { return agent_status(agent).integer("running"); }

  // "1x2 2x1": leases on each version of the pool, oldest first.
  std::string leases() {
    std::string text;
    for (const Message& version : status().objects("pools").at(0).objects("versions")) {
      text +=
          cat(text.empty() ? "" : " ", version.integer("version"), "x", version.integer("leases"));
    }
    return text;
  }
};

TEST_F(SessionLanes, one_agent_runs_as_many_at_once_as_it_has_lanes_and_the_rest_waits) {
  start_with_agents(1, with_lanes(3));
  EXPECT_EQ(agent_status("a01").integer("lanes"), 3);
  EXPECT_EQ(agent_status("a01").text("state"), "idle");
  const std::vector<std::string> ids{running(), running(), running()};
  EXPECT_EQ(taken("a01"), 3);
  EXPECT_EQ(agent_status("a01").text("state"), "busy");
  const std::string waits = sent(request("hello"));
  EXPECT_EQ(taken("a01"), 3) << "it has no lane for a fourth";
  expect_cancel_ends(ids[1]);
  EXPECT_EQ(end_of(waits).text("text"), "hello");
  EXPECT_EQ(taken("a01"), 2);
  expect_cancel_ends(ids[0]);
  expect_cancel_ends(ids[2]);
  EXPECT_EQ(agent_status("a01").text("state"), "idle");
}

TEST_F(SessionLanes, works_beyond_the_lanes_run_in_the_order_that_they_came) {
  start_with_agents(1, with_lanes(2));
  const std::string stays = running(), goes = running();
  std::vector<std::string> waiting;
  for (int i = 0; i < 4; ++i) waiting.push_back(sent(request("count")));
  expect_cancel_ends(goes);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(end_of(waiting[i]).text("text"), cat(3 + i));
  expect_cancel_ends(stays);
}

TEST_F(SessionLanes, generations_are_spread_evenly_over_the_processes) {
  start_with_agents(2, with_lanes(3));
  for (int i = 0; i < 4; ++i) (void)running();
  EXPECT_EQ(taken("a01"), 2);
  EXPECT_EQ(taken("a02"), 2);
}

TEST_F(SessionLanes, a_named_agent_without_a_free_lane_is_waited_for_and_holds_nobody_up) {
  start_with_agents(2, with_lanes(2));
  const std::string first = running("a01"), second = running("a01");
  const std::string waits = sent(request("mine", "a01"));
  EXPECT_EQ(client().ask(request("anyone's"))->text("agent"), "a02");
  EXPECT_EQ(taken("a01"), 2);
  expect_cancel_ends(second);
  EXPECT_EQ(end_of(waits).text("agent"), "a01");
  expect_cancel_ends(first);
}

TEST_F(SessionLanes, death_of_the_process_fails_all_that_it_ran_each_by_name_and_no_other) {
  start_with_agents(2, with_lanes(4));
  std::vector<std::string> lost{running("a01"), running("a01")};
  const std::string other = running("a02");
  const int64_t pid = agent_status("a01").integer("pid");
  lost.push_back(sent(request("die", "a01")));
  for (const std::string& id : lost) {
    const Message error = end_of(id);
    EXPECT_EQ(error.text("code"), "agent_lost");
    EXPECT_EQ(error.text("agent"), "a01");
    EXPECT_EQ(error.integer("pid"), pid);
  }
  EXPECT_EQ(agent_status("a01").text("state"), "ended");
  EXPECT_EQ(taken("a01"), 0);
  expect_cancel_ends(other);
}

TEST_F(SessionLanes, restarted_agent_has_all_its_lanes_again) {
  SupervisorOptions options = with_lanes(2);
  options.restart_agents = true;
  start_with_agents(1, options);
  const std::string lost = running(), dies = sent(request("die"));
  const std::string waits = sent(request("hello"));
  EXPECT_EQ(end_of(lost).text("code"), "agent_lost");
  EXPECT_EQ(end_of(dies).text("code"), "agent_lost");
  EXPECT_EQ(end_of(waits).text("text"), "hello");
  (void)running();
  (void)running();
  EXPECT_EQ(taken("a01"), 2);
}

TEST_F(SessionLanes, deadline_of_one_leaves_the_others_of_its_process) {
  start_with_agents(1, with_lanes(3));
  const std::string other = running();
  const std::string late = sent(request("hang").set("deadline_seconds", 0.05));
  EXPECT_EQ(end_of(late).text("code"), "timed_out");
  while (taken("a01") > 1 && !HasFailure()) {  // its agent is told to stop, and does
  }
  expect_cancel_ends(other);
}

TEST_F(SessionLanes, lane_that_does_not_stop_at_its_deadline_stays_taken_and_the_others_answer) {
  start_with_agents(1, with_lanes(2));
  const Message late = end_of(sent(request("deaf").set("deadline_seconds", 0.05)));
  EXPECT_EQ(late.text("code"), "timed_out");
  EXPECT_EQ(taken("a01"), 1);
  expect_answer("the other lane answers");
  expect_answer("and again");
}

TEST_F(SessionLanes, error_of_one_is_its_own) {
  start_with_agents(1, with_lanes(2));
  const std::string other = running();
  expect_error(client().ask(request("error")), ErrorCode::context_too_long, {"too long"});
  expect_cancel_ends(other);
}

TEST_F(SessionLanes, requests_of_a_vanished_client_free_their_lanes_only) {
  start_with_agents(1, with_lanes(3));
  const std::string stays = running();
  {
    auto vanishing = Client::connect(runtime(), guard());
    ASSERT_TRUE(vanishing) << vanishing.error().message;
    for (int i = 0; i < 2; ++i) {
      ASSERT_TRUE(vanishing->send(request("hang")));
      ASSERT_TRUE(vanishing->receive());
    }
    EXPECT_EQ(taken("a01"), 3);
  }
  while (taken("a01") > 1 && !HasFailure()) {
  }
  expect_cancel_ends(stays);
}

TEST_F(SessionLanes, group_runs_on_the_lanes_of_one_process) {
  start_with_agents(1, with_lanes(3));
  const std::string id = sent(group(3));
  const Message started = next(id);
  ASSERT_EQ(started.type(), "group_started") << started.dump();
  EXPECT_EQ(started.texts("agents"), (std::vector<std::string>{"a01", "a01", "a01"}));
  std::map<int64_t, std::string> texts;
  Message message = next(id);
  for (; message.type() != "group_done"; message = next(id)) {
    if (message.type() == "done") texts[message.integer("member")] = message.text("text");
  }
  EXPECT_EQ(texts.size(), 3u);
  EXPECT_EQ(message.integer("finished"), 3);
  EXPECT_EQ(agent_status("a01").integer("tokens"), 3);
}

TEST_F(SessionLanes, group_with_more_members_than_lanes_is_refused_with_the_numbers) {
  start_with_agents(2, with_lanes(2));
  const auto refused = client().ask(group(5));
  expect_error(refused, ErrorCode::agent_lost, {"5 members", "are 4"});
  EXPECT_EQ(refused.error().value, "5");
  EXPECT_EQ(refused.error().limit, "4");
  expect_error(client().ask(group(3, "hello", "a01")), ErrorCode::usage,
               {"3 members", "'a01'", "2 lane(s)"});
  ASSERT_TRUE(client().ask(Message("agents_stop").set("agent", "a02")));
  while (agent_status("a02").text("state") != "ended" && !HasFailure()) {
  }
  expect_error(client().ask(group(3)), ErrorCode::agent_lost, {"are 2"});
}

TEST_F(SessionLanes, group_whose_process_dies_in_preparation_is_refused_once) {
  start_with_agents(2, with_lanes(2));
  ASSERT_TRUE(make_pool("deadly", "a document"));
  const std::string id = sent(group(4).set("pool", "deadly"));
  const Message error = next(id);
  EXPECT_EQ(error.text("code"), "agent_lost");
  EXPECT_EQ(error.text("agent"), "a02");
  const std::string after = sent(request("the other works on"));
  for (std::string type = "token"; type == "token";) {
    const auto message = client().receive();
    ASSERT_TRUE(message) << message.error().message;
    EXPECT_EQ(message->text("id"), after) << message->dump();
    type = message->type();
  }
  EXPECT_EQ(taken("a01"), 0);
}

TEST_F(SessionLanes, cancelled_group_ends_its_lanes_and_leaves_the_others) {
  start_with_agents(1, with_lanes(3));
  const std::string other = running();
  const std::string id = sent(group(2, "hang"));
  EXPECT_EQ(next(id).type(), "group_started");
  sent(Message("cancel").set("request", id));
  Message message = next(id);
  while (message.type() != "group_done") message = next(id);
  EXPECT_EQ(message.integer("finished"), 2);
  EXPECT_EQ(taken("a01"), 1);
  expect_cancel_ends(other);
}

TEST_F(SessionLanes, each_lane_keeps_a_turn_that_can_be_committed) {
  start_with_agents(1, with_lanes(3));
  for (size_t which = 0; which < 3; ++which) {
    std::vector<std::string> turns;
    for (const char* answer : {"an answer", "another", "one more"}) {
      turns.push_back(finished(answer));
    }
    const auto committed = commit(turns[which]);
    ASSERT_TRUE(committed) << committed.error().message;
    EXPECT_EQ(committed->integer("version"), static_cast<int64_t>(which) + 2);
    EXPECT_EQ(committed->integer("segments"), static_cast<int64_t>(which) + 2);
    expect_error(commit(turns[(which + 1) % 3]), ErrorCode::conflict, {"append"});
  }
}

TEST_F(SessionLanes, turn_is_lost_when_the_lanes_have_had_others) {
  start_with_agents(1, with_lanes(2));
  const std::string first = finished("an answer");
  finished("another"), finished("one more");
  expect_error(commit(first), ErrorCode::conflict, {"a01", "answered another request since"});
}

// Which lane a start takes is the agent's to choose: it is asked, and believed.
TEST_F(SessionLanes, turn_that_the_agent_no_longer_has_is_a_conflict_and_then_forgotten) {
  start_with_agents(1, with_lanes(2));
  const std::string first = finished("an answer"), second = finished("another");
  const std::string id = sent(group(1));
  while (next(id).type() != "group_done") {
  }
  expect_error(commit(first), ErrorCode::conflict, {"its lane has another"});
  expect_error(commit(first), ErrorCode::conflict, {"answered another request since"});
  EXPECT_TRUE(commit(second)) << "that one is still there";
}

TEST_F(SessionLanes, turn_is_committed_while_other_lanes_go_on) {
  start_with_agents(1, with_lanes(2));
  const std::string other = running();
  const auto committed = commit(finished("an answer"));
  ASSERT_TRUE(committed) << committed.error().message;
  EXPECT_EQ(committed->integer("version"), 2);
  expect_cancel_ends(other);
}

TEST_F(SessionLanes, a_lane_encodes_while_the_others_answer) {
  start_with_agents(1, with_lanes(2));
  const std::string turn = finished("encode hangs");
  const std::string id = sent(Message("commit").set("request", turn));
  while (agent_status("a01").text("state") != "encoding" && !HasFailure()) {
  }
  expect_answer("hello");
  expect_error(commit(turn), ErrorCode::usage, {"already"});
  sent(Message("cancel").set("request", id));
  EXPECT_EQ(next(id).text("code"), "cancelled");
  EXPECT_EQ(taken("a01"), 1) << "it is still at it";
}

TEST_F(SessionLanes, lanes_end_on_the_version_that_they_began_on) {
  start_with_agents(1, with_lanes(2));
  const std::string old = running();
  ASSERT_TRUE(append("main", " and more"));
  EXPECT_EQ(client().ask(request("hello"))->integer("version"), 2);
  EXPECT_EQ(leases(), "1x1 2x1");
  sent(Message("cancel").set("request", old));
  EXPECT_EQ(end_of(old).integer("version"), 1);
  EXPECT_EQ(agent_status("a01").integer("version"), 2) << "the newest that it holds";
  while (leases() != "2x1" && !HasFailure()) {
  }
}

TEST_F(SessionLanes, dropped_pool_that_no_lane_works_on_is_let_go_of_while_others_run) {
  start_with_agents(1, with_lanes(2));
  const std::string old = running();
  ASSERT_TRUE(make_pool("other", "another document"));
  ASSERT_TRUE(client().ask(request("hello").set("pool", "other")));
  const int64_t held = status().integer("held_bytes");
  ASSERT_TRUE(client().ask(Message("pool_drop").set("pool", "other")));
  while (status().integer("held_bytes") >= held && !HasFailure()) {
  }
  expect_cancel_ends(old);
}

TEST_F(SessionLanes, scores_come_from_the_newest_lease_while_lanes_run) {
  start_with_agents(1, with_lanes(2));
  const std::string old = running();
  ASSERT_TRUE(append("main", " and more"));
  ASSERT_TRUE(client().ask(request("hello")));
  const std::vector<uint32_t> ids(5, 7);
  const auto tokens = share_bytes("polykv-tokens", std::as_bytes(std::span(ids)), {});
  ASSERT_TRUE(tokens);
  const auto scores = client().ask_with_memory(Message("score").set("agent", "a01"), tokens->get());
  ASSERT_TRUE(scores) << scores.error().message;
  EXPECT_EQ(scores->at(0).message.integer("rows"), 5);
  expect_cancel_ends(old);
}

TEST_F(SessionLanes, agent_by_hand_has_the_lanes_that_its_hello_says) {
  start(with_lanes(1));
  ASSERT_TRUE(make_pool("main", "a document"));
  auto agent = Child::start(POLYKV_BINARY_DIR "/fake-agent",
                            {"--runtime", runtime(), "--agent", "mine", "--pool", "main",
                             "--pool-version", "0", "--lanes", "2", "--threads", "3"});
  ASSERT_TRUE(agent) << agent.error().message;
  while (status().objects("agents").empty() && !HasFailure()) {
  }
  EXPECT_EQ(agent_status("mine").integer("lanes"), 2);
  EXPECT_EQ(agent_status("mine").integer("threads"), 3);
  (void)running();
  (void)running();
  EXPECT_EQ(taken("mine"), 2);
  agent->signal(SIGKILL);
}

TEST_F(SessionLanes, agents_get_the_threads_that_were_asked_for_or_their_share_of_the_cores) {
  const unsigned cores = std::thread::hardware_concurrency();
  SupervisorOptions options = fake_options();
  options.first_agents = 2;
  start_with_agents(1, options);
  ASSERT_TRUE(start_agents(client(), "main", 2));
  EXPECT_EQ(agent_status("a01").integer("threads"), threads_of_each(cores, 2));
  EXPECT_EQ(agent_status("a03").integer("threads"), threads_of_each(cores, 3));
  (void)session().stop();
  options.agent_threads = 5;
  start_with_agents(1, options);
  EXPECT_EQ(agent_status("a01").integer("threads"), 5);
}

}  // namespace
}  // namespace polykv
