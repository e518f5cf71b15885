// Scores: answered to who asked, and to nobody for ever.
#include <gtest/gtest.h>

#include "tests/launch/linked_runtime.h"

namespace polykv {
namespace {

using testing::expect_error;

class SessionScore : public testing::LinkedRuntime {
 protected:
  static UniqueFd tokens(size_t count) {
    const std::vector<uint32_t> ids(count, 7);
    auto memory = share_bytes("polykv-tokens", std::as_bytes(std::span(ids)), {});
    EXPECT_TRUE(memory) << memory.error().message;
    return memory ? std::move(*memory) : UniqueFd();
  }

  static Message score(const std::string& agent) { return Message("score").set("agent", agent); }
};

TEST_F(SessionScore, scores_come_back_with_their_memory) {
  start_with_agents(1);
  const auto answer = client().ask_with_memory(score("a01"), tokens(5).get());
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->at(0).message.integer("rows"), 5);
  EXPECT_EQ(answer->at(0).fds.size(), 1u);
}

TEST_F(SessionScore, agent_that_dies_while_it_scores_is_told) {
  start_with_agents(1);
  expect_error(client().ask_with_memory(score("a01"), tokens(1).get()), ErrorCode::agent_lost,
               {"a01", "scored"});
  expect_error(client().ask_with_memory(score("a01"), tokens(5).get()), ErrorCode::agent_lost,
               {"'a01'"});
}

TEST_F(SessionScore, two_clients_with_the_same_request_id_hear_their_own_agent_only) {
  start_with_agents(2);
  FdSocket first = link(), second = link();
  ASSERT_TRUE(first.send(score("a01").set("id", "m1").dump(), {tokens(2).get()}));
  ASSERT_TRUE(first.send(score("a01").set("id", "m2").dump(), {tokens(5).get()}));
  const Message refused = heard(first);  // so the first one is with the agent by now
  EXPECT_EQ(refused.text("id"), "m2");
  EXPECT_NE(refused.text("message").find("scoring already"), std::string::npos);

  ASSERT_TRUE(second.send(score("a02").set("id", "m1").dump(), {tokens(5).get()}));
  EXPECT_EQ(heard(second).integer("rows"), 5);
  (void)client().ask(request("die", "a01"));
  const Message lost = heard(first);
  EXPECT_EQ(lost.text("id"), "m1");
  EXPECT_EQ(lost.text("code"), "agent_lost") << "the other agent's scores came here";
}

TEST_F(SessionScore, request_with_memory_but_without_an_id_is_refused) {
  start_with_agents(1);
  FdSocket nameless = link();
  ASSERT_TRUE(nameless.send(score("a01").dump(), {tokens(5).get()}));
  const Message refused = heard(nameless);
  EXPECT_EQ(refused.text("code"), "bad_message");
  EXPECT_NE(refused.text("message").find("\"id\""), std::string::npos);
}

}  // namespace
}  // namespace polykv
