// Each family through the pool: a prefill, an append after what it encodes, and private tokens that
// attend to both in place, against an independent implementation and within the codec's bound.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "agents/score.h"
#include "agents/turn.h"
#include "model/rope.h"
#include "tests/agents/alone.h"
#include "tests/model/family_fixture.h"
#include "writer/segment_job.h"

namespace polykv {
namespace {

using test::FamilyFixture;
using test::kFamilyTolerance;
using Logits = std::vector<float>;  // [n_tokens, n_vocab]

// Two segments: windows of 20 tokens show the end of both, of one, or of none.
constexpr uint32_t kFirst = 33, kSecond = 17, kPool = kFirst + kSecond;

// What an encoding may do to the logits, whose standard deviation is about 1: root of mean square.
struct CodecBound {
  const char* codec;
  double rms;
};
constexpr CodecBound kBounds[] = {{"k4v4", 0.5}, {"k8v3", 0.5}};

double rms(const Logits& a, const Logits& b) {
  double sum = 0;
  EXPECT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) sum += std::pow(double{a[i]} - b[i], 2);
  return std::sqrt(sum / static_cast<double>(a.size()));
}

class FamilyThroughThePool : public testing::TestWithParam<const char*> {
 protected:
  FamilyThroughThePool() : fixture_(GetParam()) {}
  void SetUp() override {
    auto fd = pack_image(fixture_.path, memory_room());
    ASSERT_TRUE(fd) << fd.error().message;
    auto model = load_agent_model(std::move(*fd), 2, "");
    ASSERT_TRUE(model) << model.error().message;
    model_ = std::move(*model);
  }
  const ModelConfig& config() const { return model_->image.config(); }
  std::span<const uint32_t> tokens(size_t begin, size_t end) const {
    return std::span(fixture_.tokens).subspan(begin, end - begin);
  }

  // The writer's work: a prefill, then an append.
  void extend(Layout& layout, const char* codec, uint32_t n) const {
    SegmentJob job;
    const auto own = tokens(layout.n_tokens, layout.n_tokens + n);
    job.tokens.assign(own.begin(), own.end());
    for (const Span& span : layout.spans) job.past.push_back(span.segment);
    job.codecs = {*parse_codec(codec)};
    job.precision = PrefillPrecision::f32;
    auto made = run_segment_job(model_->image, job);
    ASSERT_TRUE(made) << made.error().message;
    auto view = SegmentView::open(std::move(made->front().fd), Verify::everything);
    ASSERT_TRUE(view) << view.error().message;
    layout.spans.push_back({std::move(*view), 0, n, int64_t{layout.n_tokens}});
    layout.n_tokens += n;
  }
  Layout pool(const char* codec) const {
    Layout layout;
    layout.version = 1;
    extend(layout, codec, kFirst);
    extend(layout, codec, kSecond);
    return layout;
  }

  // The agent's work: logits of private tokens.
  Logits through(const Layout& layout) const {
    return through(layout, tokens(kPool, fixture_.tokens.size()));
  }
  Logits through(const Layout& layout, std::span<const uint32_t> forced) const {
    auto fd = score(*model_, layout, forced, [](uint32_t) {});
    EXPECT_TRUE(fd) << fd.error().message;
    const auto memory = SharedView::map(std::move(*fd));
    const auto* values = reinterpret_cast<const float*>(memory->data().data());
    return {values, values + memory->data().size() / sizeof(float)};
  }

  // The same by a prefill whose past is what the layout encodes; without spans, of all tokens.
  Logits prefilled(const Layout& layout) const {
    Logits logits;
    PrefillJob job;
    job.tokens = tokens(layout.n_tokens, fixture_.tokens.size());
    job.past_tokens = layout.n_tokens;
    job.precision = PrefillPrecision::f32;
    job.past = [&](uint32_t layer, float* k, float* v) {
      for (const Span& span : layout.spans) decode(span, layer, k, v);
    };
    job.logits = &logits;
    const auto done = prefill(model_->image, job, 2);
    EXPECT_TRUE(done) << done.error().message;
    const size_t wanted = (fixture_.tokens.size() - kPool) * config().n_vocab;
    return {logits.end() - static_cast<ptrdiff_t>(wanted), logits.end()};
  }
  void decode(const Span& span, uint32_t layer, float* k, float* v) const {
    const LayerRopes ropes(config());
    const uint32_t first = span.segment.first_token(layer), dim = config().head_dim;
    const auto offset = static_cast<size_t>(span.position_offset);
    for (uint32_t t = first; t < span.token_end; ++t) {
      const size_t row = (offset + t) * config().n_kv_heads * dim;
      for (uint32_t head = 0; head < config().n_kv_heads; ++head) {
        decode_row(span.segment.k(layer, head), t - first, k + row + size_t{head} * dim);
        decode_row(span.segment.v(layer, head), t - first, v + row + size_t{head} * dim);
      }
      ropes.of(layer).rotate(k + row, config().n_kv_heads, span.position_offset);
    }
  }

  // An answer after a layout, handed over as the segment that follows it.
  SegmentView answered(const Layout& layout) const {
    GenerateOptions options;
    options.messages = {{"user", "What is it, and what is it not?"}};
    options.max_tokens = options.min_tokens = 24;
    Suffix suffix(config(), layout);
    const auto said = test::generate(*model_, layout, suffix, options);
    EXPECT_TRUE(said) << said.error().message;
    const Turn turn{"1", said->prompt_tokens, said->tokens, said->text};
    const TurnOptions how{*parse_codec("f32"), memory_room(), ""};
    auto segment = encode_turn(*model_, layout, suffix, turn, how);
    EXPECT_TRUE(segment) << segment.error().message;
    return std::move(*SegmentView::open(std::move(segment->fd), Verify::everything));
  }

  FamilyFixture fixture_;
  std::unique_ptr<AgentModel> model_;
};

TEST_P(FamilyThroughThePool, SaysWhatAnIndependentImplementationSays) {
  Logits logits = through(pool("f32"));
  logits.insert(logits.begin(), size_t{kPool} * config().n_vocab, 0);
  while (!fixture_.positions.empty() && fixture_.positions.front() < kPool) {
    fixture_.positions.erase(fixture_.positions.begin());
    fixture_.logits.erase(fixture_.logits.begin());
  }
  ASSERT_FALSE(fixture_.positions.empty());
  const double error = fixture_.error(logits);
  std::printf("%s through the pool: off by at most %.3g\n", GetParam(), error);
  EXPECT_LE(error, kFamilyTolerance);
}

// Attention in place reads what the segments encode: what integers cost besides is a tenth of what
// the encoding costs.
TEST_P(FamilyThroughThePool, StaysWithinTheCodecsBound) {
  const Logits exact = prefilled({});
  for (const CodecBound& bound : kBounds) {
    const Layout layout = pool(bound.codec);
    const Logits encoded = prefilled(layout), ours = through(layout);
    const double codec = rms(encoded, exact), arithmetic = rms(ours, encoded);
    std::printf("%s, %s: the codec %.3g, the arithmetic %.3g\n", GetParam(), bound.codec, codec,
                arithmetic);
    EXPECT_LE(codec, bound.rms) << bound.codec;
    EXPECT_LE(arithmetic, 0.1 * codec + kFamilyTolerance) << bound.codec;
  }
}

// Turned to the turn's own positions and back by each layer's RoPE.
TEST_P(FamilyThroughThePool, ReadsACommittedTurnLikeThePrivateTokensThatItWas) {
  Layout layout = pool("f32");
  SegmentView turn = answered(layout);
  const uint32_t n_turn = turn.n_tokens();
  ASSERT_GT(n_turn, 40u);
  const auto next = tokens(0, 24);
  std::vector<uint32_t> all(turn.tokens().begin(), turn.tokens().end());
  all.insert(all.end(), next.begin(), next.end());
  Logits wanted = through(layout, all);
  wanted.erase(wanted.begin(), wanted.begin() + size_t{n_turn} * config().n_vocab);
  layout.spans.push_back({std::move(turn), 0, n_turn, int64_t{layout.n_tokens}});
  layout.n_tokens += n_turn;
  const double error = rms(through(layout, next), wanted);
  std::printf("%s, a turn of %u tokens: %.3g\n", GetParam(), n_turn, error);
  EXPECT_LE(error, kFamilyTolerance / 10);
}

// Layers with a window hold what it shows of each segment.
TEST_P(FamilyThroughThePool, KeepsWhatWindowsShow) {
  const Layout layout = pool("k4v4");
  for (const Span& span : layout.spans) {
    for (uint32_t layer = 0; layer < config().n_layers; ++layer) {
      const uint32_t window = config().windows.of(layer), n = span.segment.n_tokens();
      const uint32_t rows = window == 0 ? n : std::min(n, window - 1);
      EXPECT_EQ(span.segment.k(layer, 0).shape.n_rows, rows) << "layer " << layer;
      EXPECT_EQ(span.segment.v(layer, 0).shape.n_rows, rows) << "layer " << layer;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, FamilyThroughThePool, testing::ValuesIn(test::kFamilies));

}  // namespace
}  // namespace polykv
