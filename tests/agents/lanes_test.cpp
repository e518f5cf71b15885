// Streams that step together say what each would say alone, whoever comes, goes or waits beside
// them.
#include "agents/lanes.h"

#include <map>

#include "tests/agents/small_pool.h"

namespace polykv {
namespace {

class LanesTest : public test::SmallPool {
 protected:
  void SetUp() override {
    SmallPool::SetUp();
    if (IsSkipped()) return;
    if (!whole_) {
      whole_ = holding(segment("k4v4"), 1);
      beginning_ = holding(segment("k8v3"), 2);
    }
  }
  static void TearDownTestSuite() {
    whole_.reset();
    beginning_.reset();
    SmallPool::TearDownTestSuite();
  }
  static std::shared_ptr<Holding> holding(const UniqueFd& segment, uint64_t version) {
    Layout layout = layout_of(segment);
    layout.version = version;
    return std::make_shared<Holding>(*model_, model_->team, FdSocket(), "main", std::move(layout));
  }

  // The i-th of some requests that differ in length, sampling and what they ask.
  static GenerateOptions request(uint32_t i) {
    std::string question = cat("Question ", i, ": ");
    for (uint32_t n = 0; n < i % 5 * 30; ++n) question += "what about this, ";
    GenerateOptions options;
    options.messages = {{"user", question + "and who wrote it?"}};
    options.max_tokens = options.min_tokens = 6 + i % 4;
    if (i % 3 == 2) {
      options.sampling.temperature = 0.9F;
      options.sampling.seed = i;
    }
    return options;
  }
  static GenerateResult alone(const Holding& on, const GenerateOptions& options) {
    Suffix suffix(model_->image.config(), on.layout);
    return *test::generate(*model_, on.layout, suffix, options);
  }

  void start(Lanes& lanes, const std::shared_ptr<Holding>& on, uint32_t i) {
    const auto started = lanes.start(on, cat(i), request(i));
    ASSERT_TRUE(started) << started.error().message;
  }
  void step(Lanes& lanes) {
    lanes.step([&](const Lane& lane, const std::string& text) { texts_[lane.request] += text; },
               [&](const Lane& lane) { results_[lane.request] = lane.answer->result(); });
  }
  void finish(Lanes& lanes) {
    while (lanes.busy()) step(lanes);
  }
  void expect_as_alone(const Holding& on, uint32_t i) {
    const GenerateResult wanted = alone(on, request(i));
    EXPECT_EQ(results_[cat(i)].tokens, wanted.tokens) << "request " << i;
    EXPECT_EQ(texts_[cat(i)], wanted.text) << "request " << i;
    EXPECT_EQ(results_[cat(i)].reason, "length");
  }

  static std::shared_ptr<Holding> whole_, beginning_;
  std::map<std::string, std::string> texts_;
  std::map<std::string, GenerateResult> results_;
};
std::shared_ptr<Holding> LanesTest::whole_, LanesTest::beginning_;

TEST_F(LanesTest, fifteen_at_once_say_what_each_says_alone) {
  Lanes lanes(*model_, 15);
  for (uint32_t i = 0; i < 15; ++i) start(lanes, whole_, i);
  finish(lanes);
  for (uint32_t i = 0; i < 15; ++i) expect_as_alone(*whole_, i);
}

TEST_F(LanesTest, those_who_come_later_join_those_who_are_in_the_middle) {
  Lanes lanes(*model_, 3);
  for (uint32_t i = 0; i < 9; ++i) {
    while (!lanes.start(whole_, cat(i), request(i))) step(lanes);
    step(lanes);
  }
  finish(lanes);
  for (uint32_t i = 0; i < 9; ++i) expect_as_alone(*whole_, i);
}

TEST_F(LanesTest, lanes_of_two_versions_step_together) {
  Lanes lanes(*model_, 4);
  for (uint32_t i = 0; i < 4; ++i) start(lanes, i % 2 == 0 ? whole_ : beginning_, i);
  EXPECT_EQ(lanes.find("main", 2), beginning_);
  EXPECT_EQ(lanes.find("main", 3), nullptr);
  finish(lanes);
  for (uint32_t i = 0; i < 4; ++i) expect_as_alone(i % 2 == 0 ? *whole_ : *beginning_, i);
  EXPECT_EQ(lanes.find("main", 2), nullptr) << "nobody runs on it any more";
}

TEST_F(LanesTest, one_that_is_cancelled_leaves_the_others_as_they_were) {
  Lanes lanes(*model_, 3);
  for (uint32_t i = 0; i < 3; ++i) start(lanes, whole_, i);
  for (int i = 0; i < 3; ++i) step(lanes);
  lanes.cancel("1", [&](const Lane& lane) { results_["1"] = lane.answer->result(); });
  lanes.cancel("unknown", [&](const Lane&) { ADD_FAILURE() << "nothing to cancel"; });
  EXPECT_EQ(results_["1"].reason, "cancelled");
  finish(lanes);
  expect_as_alone(*whole_, 0);
  expect_as_alone(*whole_, 2);
}

TEST_F(LanesTest, one_more_than_there_are_lanes_is_refused) {
  Lanes lanes(*model_, 2);
  start(lanes, whole_, 0);
  start(lanes, whole_, 1);
  const auto refused = lanes.start(whole_, "2", request(2));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::conflict);
  EXPECT_NE(refused.error().message.find("all 2 lanes"), std::string::npos);
  finish(lanes);
  expect_as_alone(*whole_, 0);
}

TEST_F(LanesTest, request_that_is_refused_leaves_its_lane_idle) {
  Lanes lanes(*model_, 1);
  GenerateOptions options = request(0);
  options.max_tokens = 100000;
  EXPECT_EQ(lanes.start(whole_, "0", options).error().code, ErrorCode::context_too_long);
  EXPECT_FALSE(lanes.busy());
  start(lanes, whole_, 0);
  finish(lanes);
  expect_as_alone(*whole_, 0);
}

TEST_F(LanesTest, follow_up_goes_on_where_its_conversation_is) {
  Lanes lanes(*model_, 4);
  for (uint32_t i = 0; i < 3; ++i) start(lanes, whole_, i);
  finish(lanes);
  for (uint32_t i = 0; i < 3; ++i) {
    GenerateOptions next = request(i);
    next.messages.push_back({"assistant", results_[cat(i)].text});
    next.messages.push_back({"user", "And why?"});
    ASSERT_TRUE(lanes.start(whole_, cat("next ", i), next));
    finish(lanes);
    EXPECT_GE(results_[cat("next ", i)].reused_tokens, results_[cat(i)].prompt_tokens);
    EXPECT_EQ(results_[cat("next ", i)].tokens, alone(*whole_, next).tokens);
  }
}

TEST_F(LanesTest, prompts_that_only_begin_alike_take_a_lane_each_while_there_are_some) {
  Lanes lanes(*model_, 3);
  for (uint32_t i = 0; i < 3; ++i) {
    start(lanes, whole_, i);
    finish(lanes);
  }
  for (uint32_t i = 0; i < 3; ++i) EXPECT_NE(lanes.with_turn(cat(i)), nullptr) << i;
}

TEST_F(LanesTest, turn_is_held_until_its_lane_answers_something_else_or_leaves_the_version) {
  Lanes lanes(*model_, 2);
  start(lanes, whole_, 0);
  EXPECT_EQ(lanes.with_turn("0"), nullptr) << "not finished";
  start(lanes, whole_, 1);
  finish(lanes);
  ASSERT_NE(lanes.with_turn("0"), nullptr);
  EXPECT_EQ(lanes.with_turn("0")->turn->answer, results_["0"].tokens);
  start(lanes, whole_, 5);
  finish(lanes);
  EXPECT_EQ(lanes.with_turn("0"), nullptr) << "it was the one that had rested longest";
  EXPECT_NE(lanes.with_turn("1"), nullptr);
  lanes.keep_only(beginning_);
  EXPECT_EQ(lanes.with_turn("1"), nullptr);
  EXPECT_EQ(whole_.use_count(), 1) << "idle lanes hold no version back";
}

}  // namespace
}  // namespace polykv
