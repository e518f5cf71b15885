// Who gets the next generation, and what becomes of those that nobody can run.
#include "launch/agent_table.h"

#include <gtest/gtest.h>

namespace polykv {
namespace {

using State = AgentRecord::State;

Generation generation(uint64_t key, const std::string& agent = "",
                      const std::string& client = "client", const std::string& request = "r") {
  return {key, client, request, Message("generate"), agent};
}

AgentRecord& idle(AgentTable& table, const std::string& name) {
  AgentRecord& agent = table.add(name);
  agent.state = State::idle;
  return agent;
}

// Keys that next() gives out until nothing fits; the agents become busy.
std::vector<std::string> handed_out(AgentTable& table) {
  std::vector<std::string> given;
  while (auto next = table.next()) {
    given.push_back(cat(next->first.key, ":", next->second->name));
    next->second->state = State::busy;
  }
  return given;
}

using Given = std::vector<std::string>;

TEST(AgentTable, generations_go_in_order_to_idle_agents_and_the_rest_waits) {
  AgentTable table;
  idle(table, "a01");
  idle(table, "a02");
  for (uint64_t key : {1, 2, 3}) table.enqueue(generation(key));
  EXPECT_EQ(handed_out(table), (Given{"1:a01", "2:a02"}));
  table.find("a02")->state = State::idle;
  EXPECT_EQ(handed_out(table), Given{"3:a02"});
}

TEST(AgentTable, agents_that_start_work_or_have_ended_get_nothing) {
  AgentTable table;
  table.add("a01").state = State::starting;
  table.add("a02").state = State::busy;
  table.add("a03").state = State::ended;
  table.enqueue(generation(1));
  EXPECT_FALSE(table.next());
}

TEST(AgentTable, generation_that_waits_for_a_busy_agent_holds_nobody_else_up) {
  AgentTable table;
  idle(table, "a01");
  table.add("a02").state = State::busy;
  table.enqueue(generation(1, "a02"));
  table.enqueue(generation(2));
  EXPECT_EQ(handed_out(table), Given{"2:a01"});
  table.find("a02")->state = State::idle;
  EXPECT_EQ(handed_out(table), Given{"1:a02"});
}

TEST(AgentTable, withdrawing_an_agents_generations_leaves_those_that_others_can_run) {
  AgentTable table;
  table.enqueue(generation(1, "a01"));
  table.enqueue(generation(2));
  table.enqueue(generation(3, "a01"));
  const auto taken = table.withdraw("a01");
  ASSERT_EQ(taken.size(), 2u);
  EXPECT_EQ(taken[0].key, 1u);
  EXPECT_EQ(taken[1].key, 3u);
  const auto rest = table.withdraw("");
  ASSERT_EQ(rest.size(), 1u);
  EXPECT_EQ(rest[0].key, 2u);
  EXPECT_TRUE(table.withdraw("").empty());
}

TEST(AgentTable, one_clients_request_is_withdrawn_by_client_and_id) {
  AgentTable table;
  table.enqueue(generation(1, "", "c1", "r1"));
  table.enqueue(generation(2, "", "c2", "r1"));
  EXPECT_FALSE(table.withdraw("c1", "r2"));
  const auto taken = table.withdraw("c2", "r1");
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->key, 2u);
  EXPECT_FALSE(table.withdraw("c2", "r1"));
  EXPECT_TRUE(table.withdraw("c1", "r1"));
}

TEST(AgentTable, new_names_count_up_and_pass_over_taken_ones) {
  AgentTable table;
  table.add("a02");
  EXPECT_EQ(table.new_name(), "a01");
  EXPECT_EQ(table.new_name(), "a03");
  for (int i = 4; i < 10; ++i) (void)table.new_name();
  EXPECT_EQ(table.new_name(), "a10");
}

TEST(AgentTable, agents_are_found_by_name_routing_and_what_they_run) {
  AgentTable table;
  AgentRecord& agent = idle(table, "a01");
  idle(table, "a02");  // no routing id yet: an empty one finds nobody
  agent.routing = "x";
  agent.running = generation(7);
  EXPECT_EQ(table.find("a01"), &agent);
  EXPECT_EQ(table.find("a09"), nullptr);
  EXPECT_EQ(table.by_routing("x"), &agent);
  EXPECT_EQ(table.by_routing(""), nullptr);
  EXPECT_EQ(table.by_running(7), &agent);
  EXPECT_EQ(table.by_running(8), nullptr);
  agent.state = State::ended;
  EXPECT_EQ(table.alive(), 1u);
  EXPECT_STREQ(agent.state_name(), "ended");
}

}  // namespace
}  // namespace polykv
