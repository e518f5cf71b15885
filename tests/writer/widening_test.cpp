// The safety net for K through the writer: planted key biases are found, a sound model has none.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <random>

#include "model/model.h"
#include "tests/model/family_fixture.h"
#include "tests/model/real_model.h"
#include "writer/segment_job.h"

namespace polykv {
namespace {

struct Place {
  uint32_t layer, head;
  auto operator<=>(const Place&) const = default;
};

// The Qwen2 fixture with a bias of that size in one pair of dimensions of these KV heads: RoPE
// turns it by one radian a token.
ModelImage with_biases(const std::vector<Place>& hard, float size) {
  test::RawImage raw(test::FamilyFixture("qwen2").path);
  const ModelImage image = *raw.map();
  const ModelConfig& config = image.config();
  const std::byte* begin = image.memory().data().data();
  const uint32_t partner = config.rope_interleaved != 0 ? 1 : config.head_dim / 2;
  for (const Place& place : hard) {
    for (const uint32_t d : {0U, partner}) {
      const float* bias =
          image.layer(place.layer).k_bias + size_t{place.head} * config.head_dim + d;
      raw.put(static_cast<uint64_t>(reinterpret_cast<const std::byte*>(bias) - begin), size);
    }
  }
  return *raw.map();
}

std::vector<SegmentView> segments_of(const ModelImage& image, const SegmentJob& job) {
  auto made = run_segment_job(image, job);
  EXPECT_TRUE(made) << made.error().message;
  std::vector<SegmentView> views;
  for (size_t i = 0; made && i < made->size(); ++i) {
    views.push_back(*SegmentView::open(std::move((*made)[i].fd), Verify::everything));
  }
  return views;
}

std::vector<Place> wide_places(const SegmentView& segment) {
  std::vector<Place> places;
  for (const WidePlane& plane : segment.wide_planes()) places.push_back({plane.layer, plane.head});
  return places;
}

SegmentJob fixture_job(const char* codec = "k4v4") {
  SegmentJob job;
  job.tokens = test::FamilyFixture("qwen2").tokens;
  job.codecs = {*parse_codec(codec)};
  return job;
}

std::vector<Place> two_places(const ModelConfig& config, uint32_t seed) {
  const uint32_t all = config.n_layers * config.n_kv_heads;
  std::mt19937 random(seed);
  const auto first = static_cast<uint32_t>(random() % all);
  const auto second = static_cast<uint32_t>((first + 1 + random() % (all - 1)) % all);
  std::vector<Place> places;
  for (const uint32_t i : {std::min(first, second), std::max(first, second)}) {
    places.push_back({i / config.n_kv_heads, i % config.n_kv_heads});
  }
  return places;
}

TEST(Widening, OfTwoPlantedBiasesAndNothingElse) {
  for (uint32_t seed = 1; seed <= 3; ++seed) {
    const ModelImage plain = with_biases({}, 0);
    const auto hard = two_places(plain.config(), seed);
    const ModelImage image = with_biases(hard, 1000);
    const auto without = segments_of(plain, fixture_job());
    const auto with = segments_of(image, fixture_job());
    ASSERT_EQ(without.size() + with.size(), 2u);
    EXPECT_TRUE(without[0].wide_planes().empty());
    EXPECT_EQ(wide_places(with[0]), hard) << seed;
    EXPECT_GT(with[0].bytes(), without[0].bytes());
    for (const char* codec : {"f16", "paper"}) {
      EXPECT_TRUE(segments_of(image, fixture_job(codec))[0].wide_planes().empty()) << codec;
    }
  }
}

TEST(Widening, IsTheSameOnAnyNumberOfThreadsAndKeptByWhatIsAppended) {
  const auto hard = two_places(with_biases({}, 0).config(), 7);
  const ModelImage image = with_biases(hard, 1000);
  SegmentJob job = fixture_job();
  const auto one = segments_of(image, job);
  job.n_threads = 3;
  const auto three = segments_of(image, job);
  EXPECT_EQ(wide_places(one[0]), wide_places(three[0]));
  EXPECT_EQ(one[0].bytes(), three[0].bytes());

  SegmentJob next = fixture_job();
  next.tokens.resize(5);
  next.past = segments_of(image, job);
  const auto appended = segments_of(image, next);
  for (const Place& place : hard) {
    EXPECT_GE(width_of(appended[0].k(place.layer, place.head).shape.codec),
              width_of(one[0].k(place.layer, place.head).shape.codec));
  }
  EXPECT_EQ(wide_places(appended[0]), hard);
}

TEST(Widening, ThatDoesNotFitIsRefusedAndSaysWhy) {
  const auto hard = two_places(with_biases({}, 0).config(), 2);
  const ModelImage image = with_biases(hard, 1000);
  SegmentJob job = fixture_job();
  const uint64_t plain = segments_of(with_biases({}, 0), job)[0].bytes();
  const uint64_t wide = segments_of(image, job)[0].bytes();
  job.room.budget = wide;
  EXPECT_EQ(segments_of(image, job)[0].bytes(), wide);
  job.room.budget = wide - 1;
  ASSERT_GE(*job.room.budget, plain);
  const auto refused = run_segment_job(image, job);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::memory_limit);
  EXPECT_NE(refused.error().message.find("keys need more bits"), std::string::npos);
  EXPECT_NE(refused.error().message.find("budget"), std::string::npos);
}

TEST(Widening, NeverHappensToTheTestModel) {
  POLYKV_NEEDS_MODEL();
  auto own = reopen_read_only(test::real_model()->memory().fd());
  const auto model = load_model(std::move(*own));
  ASSERT_TRUE(model);
  for (const char* path :
       {"/usr/share/common-licenses/GPL-2", POLYKV_SOURCE_DIR "/ipc/plane.cpp"}) {
    std::ifstream file(path);
    const std::string text(std::istreambuf_iterator<char>(file), {});
    SegmentJob job;
    job.tokens = *(*model)->tokenizer.encode({{{text.substr(0, 3000), false}}});
    job.n_threads = 2;
    for (const char* codec : {"k2v4", "k3v3", "k4v4", "k5v4", "k6v6", "k8v3"}) {
      job.codecs.push_back(*parse_codec(codec));
    }
    job.per_layer = true;
    auto made = run_segment_job((*model)->image, job);
    ASSERT_TRUE(made);
    for (size_t i = 0; i < made->size(); ++i) {
      const double bound = score_error_bound(job.codecs[i].k);
      ASSERT_EQ((*made)[i].layers.size(), (*model)->image.config().n_layers);
      for (const Message& layer : (*made)[i].layers) {
        const double worst = layer.number("worst_score_error");
        EXPECT_EQ(layer.integer("widened_planes"), 0) << path << codec_name(job.codecs[i]);
        EXPECT_LT(worst, 0.7 * bound) << "a margin: no other text shall tip it";
        EXPECT_GE(worst, layer.number("score_error"));
        EXPECT_GT(layer.number("k_error"), 0);
      }
    }
  }
}

}  // namespace
}  // namespace polykv
