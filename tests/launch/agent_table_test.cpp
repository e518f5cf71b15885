// Who is idle, who has rested longest, and who gets the next work.
#include "launch/agent_table.h"

#include <gtest/gtest.h>

#include "launch/work_line.h"

namespace polykv {
namespace {

using State = AgentRecord::State;
using Names = std::vector<std::string>;

class Agents : public ::testing::Test {
 protected:
  AgentRecord& idle(const std::string& name, const std::string& model = "main", size_t lanes = 1) {
    AgentRecord& agent = table_.add(name);
    agent.state = State::up;
    agent.model = model;
    agent.lanes = lanes;
    return agent;
  }
  AgentRecord& busy(const std::string& name) {
    AgentRecord& agent = idle(name);
    agent.tasks.resize(1);
    return agent;
  }

  // One member for each name; "" wants any agent.
  WorkRef add(const std::string& request, const Names& wanted, const std::string& model = "main") {
    auto work = std::make_shared<Work>();
    work->asker.request = request;
    work->model = model;
    work->version = std::make_shared<Version>();
    for (const std::string& name : wanted) work->members.emplace_back().agent = name;
    line_.add(work);
    return work;
  }

  // "request:agent,agent" of all that can begin; the agents become busy.
  Names begun() {
    Names begun;
    while (auto match = line_.next(table_)) {
      std::string names;
      for (AgentRecord* agent : match->agents) {
        names += (names.empty() ? "" : ",") + agent->name;
        table_.take(*agent, {.key = 0, .work = match->work});
      }
      begun.push_back(match->work->asker.request + ":" + names);
    }
    return begun;
  }

  // One of its lanes is free again.
  void rest(const std::string& name) { table_.find(name)->tasks.pop_back(); }

  AgentTable table_;
  WorkLine line_;
};

TEST_F(Agents, works_go_in_order_to_idle_agents_and_the_rest_waits) {
  idle("a01"), idle("a02");
  for (const char* request : {"1", "2", "3"}) add(request, {""});
  EXPECT_EQ(begun(), (Names{"1:a01", "2:a02"}));
  rest("a02");
  EXPECT_EQ(begun(), Names{"3:a02"});
}

TEST_F(Agents, agents_that_start_work_stop_or_have_ended_get_nothing) {
  for (const State state : {State::starting, State::ended}) {
    idle("a01").state = state;
    add("1", {""});
    EXPECT_EQ(begun(), Names{}) << table_.find("a01")->state_name();
  }
  for (const LaneTask& task :
       {LaneTask{.work = std::make_shared<Work>()},
        LaneTask{.work = std::make_shared<Work>(), .preparing = true}, LaneTask{.turn = 1}}) {
    idle("a01").tasks = {task};
    EXPECT_EQ(begun(), Names{}) << table_.find("a01")->state_name();
  }
  idle("a01").tasks.clear();
  idle("a01").stopping = true;
  EXPECT_EQ(begun(), Names{});
}

TEST_F(Agents, the_agent_that_has_rested_longest_is_taken) {
  idle("a01"), idle("a02"), idle("a03");
  add("1", {"a02"});
  add("2", {"a01"});
  EXPECT_EQ(begun(), (Names{"1:a02", "2:a01"}));
  rest("a01"), rest("a02");
  for (const char* request : {"3", "4", "5"}) add(request, {""});
  EXPECT_EQ(begun(), (Names{"3:a03", "4:a02", "5:a01"}));
}

TEST_F(Agents, work_that_waits_for_a_busy_agent_holds_nobody_else_up) {
  idle("a01"), busy("a02");
  add("1", {"a02"});
  add("2", {""});
  EXPECT_EQ(begun(), Names{"2:a01"});
  rest("a02");
  EXPECT_EQ(begun(), Names{"1:a02"});
}

TEST_F(Agents, agents_of_other_models_are_not_taken) {
  idle("a01", "other");
  add("1", {""});
  add("2", {""}, "other");
  EXPECT_EQ(begun(), Names{"2:a01"});
}

TEST_F(Agents, group_begins_when_all_its_agents_are_idle_at_once_and_they_differ) {
  idle("a01"), busy("a02");
  add("1", {"", ""});
  EXPECT_EQ(begun(), Names{});
  rest("a02");
  EXPECT_EQ(begun(), Names{"1:a01,a02"});
}

TEST_F(Agents, member_that_wants_an_agent_gets_it_before_one_that_takes_any) {
  idle("a01"), idle("a02");
  add("1", {"", "a01"});
  EXPECT_EQ(begun(), Names{"1:a02,a01"});
}

TEST_F(Agents, later_work_does_not_take_what_an_earlier_group_needs) {
  idle("a01"), busy("a02");
  add("group", {"", ""});
  add("later", {""});
  EXPECT_EQ(begun(), Names{}) << "or the group would wait for ever";
  idle("a03"), idle("a04");
  EXPECT_EQ(begun(), (Names{"group:a01,a03", "later:a04"}));
}

TEST_F(Agents, two_groups_never_hold_half_of_what_the_other_needs) {
  idle("a01"), idle("a02"), busy("a03");
  add("1", {"", "", ""});
  add("2", {"a01", "a02"});
  EXPECT_EQ(begun(), Names{});
  rest("a03");
  EXPECT_EQ(begun(), Names{"1:a01,a02,a03"});
  rest("a01"), rest("a02");
  EXPECT_EQ(begun(), Names{"2:a01,a02"});
}

TEST_F(Agents, work_without_a_version_waits_and_holds_nobody_up) {
  idle("a01");
  const WorkRef early = add("early", {""});
  const auto version = std::exchange(early->version, nullptr);
  add("later", {""});
  EXPECT_EQ(begun(), Names{"later:a01"});
  early->version = version;
  rest("a01");
  EXPECT_EQ(begun(), Names{"early:a01"});
}

TEST_F(Agents, removed_work_never_begins) {
  idle("a01");
  line_.remove(*add("1", {""}));
  add("2", {""});
  EXPECT_EQ(begun(), Names{"2:a01"});
}

TEST_F(Agents, names_are_new_and_ordered) {
  EXPECT_EQ(table_.new_name(), "a01");
  table_.add("a02");
  EXPECT_EQ(table_.new_name(), "a03");
}

TEST_F(Agents, ended_agents_are_not_alive) {
  idle("a01"), idle("a02", "other");
  table_.add("a03").state = State::ended;
  EXPECT_EQ(table_.alive(), 2u);
  EXPECT_EQ(table_.alive_of("other"), 1u);
}

TEST_F(Agents, found_by_routing_only_once_there_is_one) {
  AgentRecord& agent = idle("a01");
  EXPECT_EQ(table_.by_routing(""), nullptr);
  agent.routing = "agent:a01:7";
  EXPECT_EQ(table_.by_routing("agent:a01:7"), &agent);
}

TEST_F(Agents, lost_turn_is_explained_by_what_became_of_its_agent) {
  AgentRecord& agent = idle("a01");
  const Asker first{"client", 0, "r1"}, second{"client", 0, "r2"};
  EXPECT_EQ(table_.why_lost(first), "");
  table_.finished(agent, first, {first, 1, "main", {}});
  table_.finished(agent, second, {second, 2, "main", {}});
  ASSERT_EQ(agent.turns.size(), 1u);
  EXPECT_EQ(agent.turns[0].asker, second);
  EXPECT_EQ(table_.why_lost(first), "agent a01 has answered another request since");
  agent.state = State::ended;
  EXPECT_EQ(table_.why_lost(first), "agent a01, which computed it, has ended");
}

TEST_F(Agents, those_that_ended_long_ago_are_forgotten_and_nobody_else) {
  idle("runs");
  for (size_t i = 0; i < kEndedKept + 2; ++i) table_.set_ended(table_.add(table_.new_name()));
  table_.forget_ended();
  EXPECT_NE(table_.find("runs"), nullptr);
  EXPECT_EQ(table_.find("a01"), nullptr);
  EXPECT_EQ(table_.find("a02"), nullptr);
  EXPECT_NE(table_.find("a03"), nullptr);
  EXPECT_EQ(table_.all().size(), kEndedKept + 1);
  EXPECT_NE(table_.new_name(), "a01") << "a name of an ended agent would be taken for it";
}

}  // namespace
}  // namespace polykv
