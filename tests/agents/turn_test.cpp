// What an agent computed for an answer outlives it: follow-ups go on from there, and a finished
// turn becomes a segment.
#include "agents/turn.h"

#include <cstring>

#include "tests/agents/small_pool.h"

namespace polykv {
namespace {

class TurnTest : public test::SmallPool {
 protected:
  void SetUp() override {
    SmallPool::SetUp();
    if (IsSkipped()) return;
    if (segment_.get() < 0) segment_ = segment("k4v4");
    layout_ = layout_of(segment_);
    suffix_.emplace(model_->image.config(), layout_);
  }
  static void TearDownTestSuite() {
    segment_ = UniqueFd();
    SmallPool::TearDownTestSuite();
  }

  static GenerateOptions asking(std::vector<ChatTurn> messages, uint32_t max_tokens = 12) {
    GenerateOptions options;
    options.messages = std::move(messages);
    options.max_tokens = max_tokens;
    return options;
  }

  GenerateResult answer(Suffix& suffix, const GenerateOptions& options) {
    auto result = test::generate(*model_, layout_, suffix, options);
    EXPECT_TRUE(result) << result.error().message;
    return result ? *result : GenerateResult{};
  }

  GenerateResult afresh(const GenerateOptions& options) {
    Suffix suffix(model_->image.config(), layout_);
    return answer(suffix, options);
  }

  // The two are bitwise the same, whatever one of them had before.
  void expect_as_afresh(const GenerateOptions& options, uint32_t reused_at_least) {
    const GenerateResult ours = answer(*suffix_, options);
    const GenerateResult theirs = afresh(options);
    EXPECT_EQ(ours.tokens, theirs.tokens);
    EXPECT_EQ(ours.text, theirs.text);
    EXPECT_EQ(ours.prompt_tokens, theirs.prompt_tokens);
    EXPECT_EQ(theirs.reused_tokens, 0u);
    EXPECT_GE(ours.reused_tokens, reused_at_least);
    EXPECT_LT(ours.reused_tokens, ours.prompt_tokens);
  }

  Turn turn_of(const GenerateResult& result) {
    return {"1", result.prompt_tokens, result.tokens, result.text};
  }

  SegmentView encoded(const Turn& turn, const char* codec) {
    auto segment =
        encode_turn(*model_, layout_, *suffix_, turn, {*parse_codec(codec), memory_room(), ""});
    EXPECT_TRUE(segment) << segment.error().message;
    auto view = SegmentView::open(std::move(segment->fd), Verify::everything);
    EXPECT_TRUE(view) << view.error().message;
    EXPECT_EQ(view->n_tokens(), segment->n_tokens);
    return std::move(*view);
  }

  std::vector<uint32_t> tokens_of(const std::vector<TextPiece>& pieces) {
    return *model_->text->tokenizer.encode(pieces);
  }

  // Question and answer as `append` would write them.
  std::vector<uint32_t> appended(const std::string& question, const std::string& answer) {
    auto tokens = tokens_of(model_->text->chat.document(question, false, "user"));
    const auto more = tokens_of(model_->text->chat.document(answer, false, "assistant"));
    tokens.insert(tokens.end(), more.begin(), more.end());
    return tokens;
  }

  static std::vector<uint32_t> list(std::span<const uint32_t> tokens) {
    return {tokens.begin(), tokens.end()};
  }

  static UniqueFd segment_;
  Layout layout_;
  std::optional<Suffix> suffix_;
};
UniqueFd TurnTest::segment_;

const ChatTurn kQuestion{"user", "What is this about?"};
const ChatTurn kFollowUp{"user", "And who wrote it?"};

TEST_F(TurnTest, follow_up_goes_on_from_the_answer_and_says_the_same_as_afresh) {
  const GenerateResult first = answer(*suffix_, asking({kQuestion}));
  EXPECT_EQ(first.reused_tokens, 0u);
  const auto next = asking({kQuestion, {"assistant", first.text}, kFollowUp});
  // All of the prompt and of the answer but its last token, which was sampled and not computed.
  expect_as_afresh(next, first.prompt_tokens + static_cast<uint32_t>(first.tokens.size()) - 1);
}

TEST_F(TurnTest, seeded_follow_up_says_the_same_as_afresh) {
  const GenerateResult first = answer(*suffix_, asking({kQuestion}));
  auto next = asking({kQuestion, {"assistant", first.text}, kFollowUp}, 24);
  next.sampling.temperature = 0.8F;
  next.sampling.repetition_penalty = 1.1F;
  next.sampling.seed = 7;
  expect_as_afresh(next, first.prompt_tokens);
}

TEST_F(TurnTest, the_same_question_again_computes_its_last_token_only) {
  const GenerateResult first = answer(*suffix_, asking({kQuestion}));
  expect_as_afresh(asking({kQuestion}), first.prompt_tokens - 1);
}

TEST_F(TurnTest, another_question_keeps_no_more_than_the_beginning_they_share) {
  (void)answer(*suffix_, asking({kQuestion}, 40));
  expect_as_afresh(asking({kFollowUp}), 1);
  EXPECT_EQ(answer(*suffix_, asking({{"system", "Be brief."}, kFollowUp})).reused_tokens, 2u)
      << "line break and start of a message";
}

TEST_F(TurnTest, room_is_what_the_request_needs_more_or_less) {
  for (const uint32_t max_tokens : {12, 60, 8}) {
    const GenerateResult result = answer(*suffix_, asking({kQuestion}, max_tokens));
    EXPECT_EQ(suffix_->room(), result.prompt_tokens + max_tokens);
    EXPECT_EQ(result.suffix_bytes, suffix_->bytes());
  }
  suffix_->clear();
  EXPECT_EQ(suffix_->bytes(), 0u);
  expect_as_afresh(asking({kQuestion}), 0);
}

TEST_F(TurnTest, cancelled_prompt_leaves_what_was_computed_and_the_next_answer_is_right) {
  const std::string long_text = "One of many words. ";
  std::string prompt;
  for (int i = 0; i < 30; ++i) prompt += long_text;
  int asked = 0;
  const auto result = test::generate(*model_, layout_, *suffix_, asking({{"user", prompt}}),
                                     [&] { return ++asked < 3; });
  ASSERT_TRUE(result) << result.error().message;
  EXPECT_EQ(result->reason, "cancelled");
  EXPECT_EQ(result->text, "");
  EXPECT_EQ(suffix_->n_tokens(), 2 * Decoder::kRowsMax);
  EXPECT_LT(suffix_->n_tokens(), result->prompt_tokens);
  expect_as_afresh(asking({{"user", prompt}}), 2 * Decoder::kRowsMax);
}

TEST_F(TurnTest, turn_is_the_text_that_append_would_write_and_says_what_it_follows) {
  const GenerateResult result = answer(*suffix_, asking({kQuestion}));
  const SegmentView turn = encoded(turn_of(result), "k4v4");
  EXPECT_EQ(list(turn.tokens()), appended(kQuestion.content, result.text));
  EXPECT_EQ(turn.header().provenance, static_cast<uint32_t>(Provenance::committed_turn));
  EXPECT_EQ(turn.header().encode_mode, static_cast<uint32_t>(EncodeMode::after_prefix));
  EXPECT_EQ(turn.header().n_sinks, 0u);
  const Fingerprint prefix = chain_hash({}, tokens_);
  EXPECT_EQ(std::memcmp(turn.header().prefix, prefix.data(), prefix.size()), 0);
  EXPECT_TRUE(turn.codec() == *parse_codec("k4v4"));
}

TEST_F(TurnTest, turn_encoded_twice_is_the_same) {
  const Turn turn = turn_of(answer(*suffix_, asking({kQuestion})));
  EXPECT_EQ(segment_identity(encoded(turn, "k4v4")), segment_identity(encoded(turn, "k4v4")));
}

// In f32 nothing but the rounding of the rotation is lost. It moves some of the integers that stand
// for queries and weights by one: measured, logits by up to 0.13 where they are bytes, and by 0.006
// with the reference kernels.
TEST_F(TurnTest, committed_turn_reads_like_the_suffix_that_it_was) {
  const GenerateResult result = answer(*suffix_, asking({kQuestion}));
  SegmentView turn = encoded(turn_of(result), "f32");
  const std::vector<uint32_t> turn_tokens = list(turn.tokens());
  const std::vector<uint32_t> forced(tokens_.begin(), tokens_.begin() + 8);
  std::vector<uint32_t> all = turn_tokens;
  all.insert(all.end(), forced.begin(), forced.end());
  auto private_scores = SharedView::map(*score(*model_, layout_, all, [](uint32_t) {}));
  Layout next = std::move(layout_);
  next.spans.push_back(
      {std::move(turn), 0, static_cast<uint32_t>(turn_tokens.size()), int64_t{next.n_tokens}});
  next.n_tokens += static_cast<uint32_t>(turn_tokens.size());
  auto shared_scores = SharedView::map(*score(*model_, next, forced, [](uint32_t) {}));
  const size_t n_vocab = model_->image.config().n_vocab;
  const auto* ours = reinterpret_cast<const float*>(shared_scores->data().data());
  const auto* theirs =
      reinterpret_cast<const float*>(private_scores->data().data()) + turn_tokens.size() * n_vocab;
  float worst = 0;
  for (size_t i = 0; i < forced.size() * n_vocab; ++i) {
    worst = std::max(worst, std::abs(ours[i] - theirs[i]));
  }
  EXPECT_LT(worst, 0.4F);
}

TEST_F(TurnTest, turn_that_met_a_stop_string_ends_before_it) {
  const GenerateResult whole = answer(*suffix_, asking({kQuestion}, 24));
  auto options = asking({kQuestion}, 24);
  options.stop = {whole.text.substr(whole.text.size() / 2, 3)};
  const GenerateResult result = answer(*suffix_, options);
  ASSERT_EQ(result.reason, "stop");
  const auto turn = list(encoded(turn_of(result), "k4v4").tokens());
  ASSERT_EQ(turn.back(), *model_->text->tokenizer.special_token("<|im_end|>"));
  const std::vector<uint32_t> said(turn.begin() + result.prompt_tokens, turn.end());
  EXPECT_EQ(model_->text->tokenizer.decode(said), result.text);
}

TEST_F(TurnTest, turn_without_room_is_refused_before_it_takes_any) {
  const Turn turn = turn_of(answer(*suffix_, asking({kQuestion})));
  MemoryRoom room;
  room.budget = 10;
  const auto refused =
      encode_turn(*model_, layout_, *suffix_, turn, {*parse_codec("k4v4"), room, "a holder"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::memory_limit);
  EXPECT_NE(refused.error().message.find("a holder"), std::string::npos);
  EXPECT_TRUE(encode_turn(*model_, layout_, *suffix_, turn, {*parse_codec("k4v4"), {}, ""}));
}

}  // namespace
}  // namespace polykv
