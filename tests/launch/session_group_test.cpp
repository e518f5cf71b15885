// A group runs on one version, each member on an agent of its own, or not at all.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/launch/fake_runtime.h"

namespace polykv {
namespace {

using testing::expect_error;

struct MemberWish {
  std::string prompt;
  std::string agent = {};
  int64_t seed = -1;
};

class SessionGroup : public testing::FakeRuntime {
 protected:
  static Message group(const std::vector<MemberWish>& wishes, const std::string& pool = "main") {
    std::vector<Message> members;
    for (const MemberWish& wish : wishes) {
      Message member("group_member");
      member.set("prompt", wish.prompt);
      if (!wish.agent.empty()) member.set("agent", wish.agent);
      if (wish.seed >= 0) member.set_id("seed", static_cast<uint64_t>(wish.seed));
      members.push_back(member);
    }
    Message message("group_generate");
    return message.set("pool", pool).set("max_tokens", 8).set("members", members);
  }

  struct Outcome {
    Message started{"none"}, last{"none"};
    std::map<int64_t, Message> members;
  };
  // All that comes back to a group, up to its last answer.
  Outcome outcome(const std::string& id) {
    Outcome all;
    while (true) {
      Message message = next(id);
      const std::string type = message.type();
      if (type == "group_started") {
        EXPECT_TRUE(all.members.empty()) << "a member answered before the group had started";
        all.started = message;
      } else if (message.has("member")) {
        if (type != "token") all.members.insert_or_assign(message.integer("member"), message);
      } else {
        all.last = message;
        return all;
      }
    }
  }

  void expect_nobody_at_work() {
    for (const Message& agent : status().objects("agents")) {
      const std::string state = agent.text("state");
      EXPECT_TRUE(state == "idle" || state == "ended") << agent.text("agent") << " is " << state;
      EXPECT_EQ(agent.integer("tokens"), 0);
    }
  }
};

TEST_F(SessionGroup, members_answer_on_one_version_from_agents_of_their_own) {
  start_with_agents(3);
  const Outcome all = outcome(sent(group({{"one"}, {"two", "a01"}, {"three"}})));
  EXPECT_EQ(all.started.integer("version"), 1);
  EXPECT_EQ(all.started.texts("agents"), (std::vector<std::string>{"a02", "a01", "a03"}));
  ASSERT_EQ(all.members.size(), 3u);
  const std::vector<std::string> prompts{"one", "two", "three"};
  for (const auto& [member, done] : all.members) {
    EXPECT_EQ(done.type(), "done") << done.dump();
    EXPECT_EQ(done.text("text"), prompts[static_cast<size_t>(member)]);
    EXPECT_EQ(done.text("agent"), all.started.texts("agents")[static_cast<size_t>(member)]);
    EXPECT_EQ(done.integer("version"), 1);
  }
  EXPECT_EQ(all.last.type(), "group_done");
  EXPECT_EQ(all.last.integer("finished"), 3);
  EXPECT_EQ(all.last.integer("failed"), 0);
}

TEST_F(SessionGroup, seeds_are_the_members_own_where_they_have_one) {
  start_with_agents(2);
  const Outcome all = outcome(sent(group({{"seed", "", 7}, {"seed"}}).set_id("seed", 5)));
  EXPECT_EQ(all.members.at(0).text("text"), "7");
  EXPECT_EQ(all.members.at(1).text("text"), "5");
}

TEST_F(SessionGroup, agents_on_different_versions_all_move_to_the_one_that_was_asked_for) {
  start_with_agents(2);
  ASSERT_TRUE(append("main", " and more"));
  ASSERT_TRUE(client().ask(request("hello", "a02")));  // holds version 2 now, a01 still 1
  const Outcome all = outcome(sent(group({{"one"}, {"two"}})));
  EXPECT_EQ(all.started.integer("version"), 2);
  for (const auto& [member, done] : all.members) EXPECT_EQ(done.integer("version"), 2) << member;
}

TEST_F(SessionGroup, version_stays_that_of_the_request_although_an_append_comes_between) {
  start_with_agents(2);
  const std::string blocker = sent(request("hang", "a01"));
  const std::string id = sent(group({{"one"}, {"two"}}));
  ASSERT_TRUE(append("main", " and more"));
  sent(Message("cancel").set("request", blocker));
  const Outcome all = outcome(id);
  EXPECT_EQ(all.started.integer("version"), 1);
  for (const auto& [member, done] : all.members) EXPECT_EQ(done.integer("version"), 1) << member;
}

TEST_F(SessionGroup, at_least_holds_for_a_group_too) {
  start_with_agents(2);
  const std::string id = sent(group({{"one"}, {"two"}}).set("at_least", 2));
  ASSERT_TRUE(append("main", " and more"));
  EXPECT_EQ(outcome(id).started.integer("version"), 2);
}

TEST_F(SessionGroup, fewer_agents_than_members_are_refused_at_once_with_the_numbers) {
  start_with_agents(2);
  const auto refused = client().ask(group({{"one"}, {"two"}, {"three"}}));
  expect_error(refused, ErrorCode::agent_lost, {"3 members", "are 2"});
  EXPECT_EQ(refused.error().value, "3");
  EXPECT_EQ(refused.error().limit, "2");
  expect_nobody_at_work();
}

TEST_F(SessionGroup, groups_that_cannot_be_are_refused) {
  start_with_agents(2);
  expect_error(client().ask(group({})), ErrorCode::usage, {"empty"});
  expect_error(client().ask(group({{"one", "a01"}, {"two", "a01"}})), ErrorCode::usage,
               {"two members", "'a01'"});
  expect_error(client().ask(group({{"one", "a09"}, {"two"}})), ErrorCode::usage, {"'a09'"});
  expect_error(client().ask(group({{"one"}}, "none")), ErrorCode::version_gone, {"'none'"});
  expect_nobody_at_work();
}

TEST_F(SessionGroup, agent_that_cannot_hold_the_version_keeps_all_from_starting) {
  start_with_agents(3);
  ASSERT_TRUE(make_pool("unprepared", "a document"));
  const Outcome all = outcome(sent(group({{"one"}, {"two"}, {"three"}}, "unprepared")));
  EXPECT_EQ(all.started.type(), "none");
  EXPECT_EQ(all.last.text("code"), "memory_limit");
  EXPECT_EQ(all.last.text("agent"), "a02");
  EXPECT_TRUE(all.members.empty());
  for (const char* agent : {"a01", "a02", "a03"}) expect_answer("hello", agent);
  EXPECT_EQ(client().ask(request("count", "a01"))->text("text"), "2") << "it had been started";
}

TEST_F(SessionGroup, agent_that_dies_in_preparation_fails_the_group_by_name) {
  start_with_agents(3);
  ASSERT_TRUE(make_pool("deadly", "a document"));
  const Outcome all = outcome(sent(group({{"one"}, {"two"}, {"three"}}, "deadly")));
  EXPECT_EQ(all.started.type(), "none");
  EXPECT_EQ(all.last.text("code"), "agent_lost");
  EXPECT_EQ(all.last.text("agent"), "a02");
  for (const char* agent : {"a01", "a03"}) expect_answer("hello", agent);
}

TEST_F(SessionGroup, agent_that_dies_later_fails_its_member_only) {
  start_with_agents(3);
  const Outcome all = outcome(sent(group({{"one"}, {"die"}, {"three"}})));
  EXPECT_EQ(all.members.at(0).text("text"), "one");
  EXPECT_EQ(all.members.at(1).text("code"), "agent_lost");
  EXPECT_EQ(all.members.at(2).text("text"), "three");
  EXPECT_EQ(all.last.integer("finished"), 2);
  EXPECT_EQ(all.last.integer("failed"), 1);
}

TEST_F(SessionGroup, error_of_one_member_is_its_own) {
  start_with_agents(2);
  const Outcome all = outcome(sent(group({{"error"}, {"two"}})));
  EXPECT_EQ(all.members.at(0).text("code"), "context_too_long");
  EXPECT_EQ(all.members.at(1).text("text"), "two");
}

TEST_F(SessionGroup, agent_that_ends_while_the_group_waits_for_others_fails_it) {
  start_with_agents(2);
  const std::string blocker = sent(request("hang", "a01"));
  EXPECT_EQ(next(blocker).type(), "token");
  const std::string id = sent(group({{"one"}, {"two"}}));
  sent(request("die", "a02").set("deadline_seconds", 100));
  ASSERT_TRUE(client().ask(Message("agents_stop").set("agent", "a02")));
  EXPECT_EQ(outcome(id).last.text("code"), "agent_lost");
}

TEST_F(SessionGroup, two_groups_at_once_both_end) {
  start_with_agents(3);
  std::vector<std::string> ids;
  for (int i = 0; i < 6; ++i) ids.push_back(sent(group({{"one"}, {"two"}, {"three"}})));
  std::map<std::string, int> ended;
  while (ended.size() < ids.size()) {
    const auto message = client().receive();
    ASSERT_TRUE(message) << message.error().message;
    ASSERT_NE(message->type(), "error") << message->dump();
    if (message->type() == "group_done") ++ended[message->text("id")];
  }
}

TEST_F(SessionGroup, cancelled_group_ends_its_members) {
  start_with_agents(2);
  const std::string id = sent(group({{"hang"}, {"hang"}}));
  EXPECT_EQ(next(id).type(), "group_started");
  sent(Message("cancel").set("request", id));
  const Outcome all = outcome(id);
  EXPECT_EQ(all.members.at(0).text("reason"), "cancelled");
  EXPECT_EQ(all.members.at(1).text("reason"), "cancelled");
  EXPECT_EQ(all.last.type(), "group_done");
}

TEST_F(SessionGroup, group_that_waits_is_cancelled_whole) {
  start_with_agents(2);
  const std::string blocker = sent(request("hang", "a01"));
  const std::string id = sent(group({{"one"}, {"two"}}));
  sent(Message("cancel").set("request", id));
  EXPECT_EQ(outcome(id).last.text("code"), "cancelled");
  sent(Message("cancel").set("request", blocker));
}

TEST_F(SessionGroup, deadline_in_preparation_starts_nobody_and_names_who_was_late) {
  start_with_agents(2);
  ASSERT_TRUE(make_pool("slow", "a document"));
  const Outcome all =
      outcome(sent(group({{"one"}, {"two"}}, "slow").set("deadline_seconds", 0.05)));
  EXPECT_EQ(all.started.type(), "none");
  EXPECT_EQ(all.last.text("code"), "timed_out");
  EXPECT_NE(all.last.text("message").find("a02"), std::string::npos) << all.last.dump();
  EXPECT_EQ(agent_status("a02").text("state"), "preparing");
}

TEST_F(SessionGroup, deadline_of_running_members_is_told_to_each_and_the_group_ends) {
  start_with_agents(2);
  const Outcome all = outcome(sent(group({{"quick"}, {"deaf"}}).set("deadline_seconds", 0.2)));
  EXPECT_EQ(all.members.at(0).type(), "done");
  EXPECT_EQ(all.members.at(1).text("code"), "timed_out");
  EXPECT_EQ(all.last.type(), "group_done");
  EXPECT_EQ(all.last.integer("failed"), 1);
}

}  // namespace
}  // namespace polykv
