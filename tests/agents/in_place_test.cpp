// Agents attend on the encoded bytes themselves, and take nothing on trust.
#include "tests/agents/small_pool.h"
#include "tests/agents/tamper.h"

namespace polykv {
namespace {

class InPlace : public test::SmallPool {
 protected:
  static std::vector<uint32_t> answer(const Layout& layout) {
    GenerateOptions options;
    options.messages = {{"user", "What is this about?"}};
    options.max_tokens = options.min_tokens = 24;
    Suffix suffix(model_->image.config(), layout);
    return test::generate(*model_, layout, suffix, options)->tokens;
  }

  static std::vector<float> logits(const Layout& layout) {
    const std::vector<uint32_t> forced(tokens_.begin(), tokens_.begin() + 8);
    auto memory = SharedView::map(*score(*model_, layout, forced, [](uint32_t) {}));
    const auto* values = reinterpret_cast<const float*>(memory->data().data());
    return {values, values + memory->data().size() / sizeof(float)};
  }

  // Flips all bits of one byte of V codes of one plane.
  static UniqueFd change_one_byte(const UniqueFd& segment, uint16_t layer, uint16_t head,
                                  size_t byte) {
    return *tamper(segment, [&](const PlaneEntry& entry, std::span<std::byte> plane) {
      const bool v = entry.kind == static_cast<uint16_t>(PlaneKind::v);
      if (!v || entry.layer != layer || entry.head != head) return;
      const auto codes = codes_of(entry, shape().head_dim, plane);
      codes[byte % codes.size()] ^= std::byte{0xff};
    });
  }
};

// In a document of a few tokens each of them weighs enough for one byte to turn an answer.
TEST_F(InPlace, one_byte_of_codes_changed_changes_the_logits_and_an_answer) {
  const std::vector<uint32_t> document = tokens_;
  tokens_ =
      *model_->text->tokenizer.encode(model_->text->chat.document("Red, blue or green?", true));
  const UniqueFd whole = segment("k4v4");
  const std::vector<float> sound = logits(layout_of(whole));
  const std::vector<uint32_t> reference = answer(layout_of(whole));
  bool answer_changed = false;
  const uint32_t n_planes = shape().n_layers * shape().n_kv_heads;
  // Later layers first: there a change is nearest to the choice of a token.
  for (uint32_t attempt = 60; attempt < 4 * n_planes && !answer_changed; ++attempt) {
    const auto layer = static_cast<uint16_t>(attempt % n_planes / shape().n_kv_heads);
    const auto head = static_cast<uint16_t>(attempt % shape().n_kv_heads);
    const Layout damaged = layout_of(change_one_byte(whole, layer, head, size_t{37} * attempt));
    EXPECT_NE(logits(damaged), sound) << "layer " << layer << ", head " << head;
    answer_changed = answer(damaged) != reference;
  }
  tokens_ = document;
  EXPECT_TRUE(answer_changed);
}

TEST_F(InPlace, an_answer_over_the_same_bytes_is_the_same) {
  const UniqueFd whole = segment("k4v4");
  const Layout copy = layout_of(*tamper(whole, [](const PlaneEntry&, std::span<std::byte>) {}));
  EXPECT_EQ(answer(layout_of(whole)), answer(copy));
}

TEST_F(InPlace, the_suffix_continues_an_f32_pool_as_one_context) {
  // The document's first half in the pool and its second half as private tokens, against all in
  // one.
  const std::vector<uint32_t> all = tokens_;
  const size_t half = all.size() / 2;
  const std::vector<uint32_t> rest(all.begin() + half, all.begin() + half + 32);
  tokens_.resize(half);
  const Layout layout = layout_of(segment("f32"));
  auto memory = SharedView::map(*score(*model_, layout, rest, [](uint32_t) {}));
  tokens_ = all;
  std::vector<float> expected;
  PrefillJob job;
  job.tokens = std::span(all).first(half + rest.size());
  job.layer_done = [](const LayerKv&) -> Status { return {}; };
  job.logits = &expected;
  job.precision = PrefillPrecision::f32;
  ASSERT_TRUE(prefill(model_->image, job, 2));
  const uint32_t n_vocab = model_->image.config().n_vocab;
  const auto* ours = reinterpret_cast<const float*>(memory->data().data());
  for (size_t i = 0; i < rest.size() * n_vocab; ++i) {
    ASSERT_NEAR(ours[i], expected[half * n_vocab + i], 1e-2) << "value " << i;
  }
}

TEST_F(InPlace, a_pool_of_another_model_is_refused_by_fingerprint) {
  const UniqueFd whole = segment("k4v4");
  Fingerprint other = model_->image.fingerprint();
  other[0] ^= 1;
  const auto layout = open(manifest_of(whole), whole, other);
  ASSERT_FALSE(layout);
  EXPECT_EQ(layout.error().code, ErrorCode::fingerprint_mismatch);
  EXPECT_NE(layout.error().message.find(to_hex(other)), std::string::npos);
}

TEST_F(InPlace, a_segment_that_the_manifest_does_not_list_is_refused) {
  const UniqueFd whole = segment("k4v4");
  const UniqueFd other = segment("k5v4");
  const auto layout = open(manifest_of(whole), other, model_->image.fingerprint());
  ASSERT_FALSE(layout);
  EXPECT_EQ(layout.error().code, ErrorCode::bad_segment);
}

TEST_F(InPlace, more_tokens_than_positions_are_refused_with_the_three_numbers) {
  GenerateOptions options;
  options.messages = {{"user", "Why?"}};
  options.max_tokens = 8192;
  Suffix suffix(model_->image.config());
  const auto refused = test::generate(*model_, layout_of(segment("k4v4")), suffix, options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::context_too_long);
  EXPECT_NE(refused.error().message.find(cat("context (", tokens_.size())), std::string::npos);
  EXPECT_NE(refused.error().message.find("max tokens (8192)"), std::string::npos);
}

}  // namespace
}  // namespace polykv
