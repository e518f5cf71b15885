// Prefill against an independent implementation, the decoder, and itself in pieces.
#include "model/prefill.h"

#include "model/prefill_path.h"
#include "model/prefill_split.h"
#include "tests/model/logits_fixture.h"
#include "tests/model/plain_attention.h"
#include "tests/model/real_model.h"

namespace polykv {
namespace {

using test::real_model;

const test::LogitsFixture& fixture() {
  static const auto read =
      test::read_logits_fixture(POLYKV_SOURCE_DIR "/tests/fixtures/logits.bin");
  return read;
}

struct Kept {
  std::vector<std::vector<float>> k, v;  // [layers][tokens, n_kv_heads, head_dim]
  std::vector<std::vector<float>> q;     // [layers][query_tokens(n), n_heads, head_dim]
};

// What a precision may cost: KLDs of logits, and differences of K and V.
struct Bounds {
  PrefillPrecision precision;
  double median_kld, mean_kld, same_top;  // against an independent implementation
  double decoder_kld;                     // its activations have 16 bits
  double decoder_kv;
  double pieces_kld, pieces_kv;
  bool packed = false;  // packed weights by the decoder's kernels
};
// f32: rounding alone. best: a tenth of the codec's median KLD would be 1.3e-4, and K and V are
// rounded to 4 bits afterwards. Against the decoder it is 64 tokens only, without a text before.
constexpr Bounds kF32{PrefillPrecision::f32, 1e-9, 1e-9, 0.998, 5e-7, 1e-2, 1e-9, 5e-3};
constexpr Bounds kBest{PrefillPrecision::best, 1e-5, 3e-5, 0.995, 3e-5, 0.1, 3e-5, 0.1};
constexpr Bounds kPacked{PrefillPrecision::best, 1e-5, 3e-5, 0.995, 3e-5, 0.1, 3e-5, 0.1, true};
constexpr Bounds kFast{PrefillPrecision::fast, 1.3e-4, 5e-4, 0.98, 2e-4, 1, 5e-4, 1, true};

const Kernels& kernels() {
  static const KernelChoice chosen = *choose_kernels();
  return chosen.set;
}

class Prefills : public testing::TestWithParam<Bounds> {
 protected:
  void SetUp() override {
    POLYKV_NEEDS_MODEL();
    if (GetParam().precision == PrefillPrecision::best && !GetParam().packed && !can_split()) {
      GTEST_SKIP() << "no AMX here, or libtorch lacks the product for it: the best is f32";
    }
    if (GetParam().packed && kernels().name == "ref") {
      GTEST_SKIP() << "no AVX2 here: the writer leaves packed weights to libtorch";
    }
  }
};

// A job that keeps all K and V.
PrefillJob job_for(std::span<const uint32_t> tokens, Kept& kept, std::vector<float>* logits,
                   const Bounds& bounds = kF32) {
  PrefillJob job;
  job.precision = bounds.precision;
  if (bounds.packed) job.kernels = &kernels();
  job.tokens = tokens;
  job.logits = logits;
  const ModelConfig& config = real_model()->config();
  const size_t n = tokens.size() * config.n_kv_heads * config.head_dim;
  const size_t n_queries =
      query_tokens(static_cast<uint32_t>(tokens.size())).size() * config.n_heads * config.head_dim;
  job.layer_done = [&kept, n, n_queries](const LayerKv& layer) -> Status {
    EXPECT_EQ(layer.layer, kept.k.size());
    kept.k.emplace_back(layer.k, layer.k + n);
    kept.v.emplace_back(layer.v, layer.v + n);
    kept.q.emplace_back(layer.q, layer.q + n_queries);
    return {};
  };
  return job;
}

void attach_past(PrefillJob& job, const Kept& past, uint32_t n_tokens) {
  job.past_tokens = n_tokens;
  job.past = [&past](uint32_t layer, float* k, float* v) {
    std::copy(past.k[layer].begin(), past.k[layer].end(), k);
    std::copy(past.v[layer].begin(), past.v[layer].end(), v);
  };
}

void expect_near(std::span<const float> a, std::span<const float> b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(double{a[i]} - b[i]));
  EXPECT_LE(worst, tolerance);
}

// Of all tokens' queries, those that a prefill hands over.
std::vector<float> sampled_queries(const std::vector<float>& all, uint32_t n_tokens) {
  const size_t width = all.size() / n_tokens;
  std::vector<float> sampled;
  for (const uint32_t token : query_tokens(n_tokens)) {
    const auto first = all.begin() + static_cast<ptrdiff_t>(token * width);
    sampled.insert(sampled.end(), first, first + static_cast<ptrdiff_t>(width));
  }
  return sampled;
}

TEST_P(Prefills, PredictsWhatAnIndependentImplementationPredicts) {
  const Bounds& bounds = GetParam();
  Kept kept;
  std::vector<float> logits;
  ASSERT_TRUE(prefill(*real_model(), job_for(fixture().window(), kept, &logits, bounds), 2));
  const test::Agreement found = test::compare(fixture(), logits);
  std::printf("KLD median %.3g mean %.3g, top-1 same %.4f\n", found.median_kld, found.mean_kld,
              found.same_top);
  EXPECT_LE(found.median_kld, bounds.median_kld);
  EXPECT_LE(found.mean_kld, bounds.mean_kld);
  EXPECT_GE(found.same_top, bounds.same_top);
}

TEST_P(Prefills, GivesTheDecodersKeysValuesAndPredictions) {
  const Bounds& bounds = GetParam();
  const ModelImage& image = *real_model();
  const auto tokens = fixture().window().first(64);
  Kept kept;
  std::vector<float> logits, native(tokens.size() * image.config().n_vocab);
  ASSERT_TRUE(prefill(image, job_for(tokens, kept, &logits, bounds), 2));
  ThreadTeam team(2);
  Decoder decoder(image, kernels(), team);
  test::PlainAttention attention(image.config());
  for (uint32_t at = 0; at < tokens.size(); at += 32) {
    decoder.step(tokens.subspan(at, 32), at, attention, 32, &native[at * image.config().n_vocab]);
  }
  EXPECT_LE(test::compare(native, logits, image.config().n_vocab).median_kld, bounds.decoder_kld);
  ASSERT_EQ(kept.k.size(), image.config().n_layers);
  for (uint32_t layer = 0; layer < image.config().n_layers; ++layer) {
    expect_near(kept.k[layer], attention.keys(layer), bounds.decoder_kv);
    expect_near(kept.v[layer], attention.values(layer), bounds.decoder_kv);
    expect_near(kept.q[layer], sampled_queries(attention.queries(layer), 64), bounds.decoder_kv);
  }
}

TEST_P(Prefills, AfterAPastGivesTheSameAsInOnePiece) {
  const Bounds& bounds = GetParam();
  const ModelImage& image = *real_model();
  const auto tokens = std::span(fixture().tokens).first(900);
  Kept whole, first, second;
  std::vector<float> logits, after;
  ASSERT_TRUE(prefill(image, job_for(tokens, whole, &logits, bounds), 2));
  ASSERT_TRUE(prefill(image, job_for(tokens.first(300), first, nullptr, bounds), 2));
  PrefillJob job = job_for(tokens.subspan(300), second, &after,
                           bounds);  // more than one chunk of queries
  attach_past(job, first, 300);
  ASSERT_TRUE(prefill(image, job, 2));
  const uint32_t n_vocab = image.config().n_vocab;
  EXPECT_LE(
      test::compare(std::span(logits).subspan(size_t{300} * n_vocab), after, n_vocab).mean_kld,
      bounds.pieces_kld);

  const size_t width = size_t{image.config().n_kv_heads} * image.config().head_dim;
  const Rope rope(image.config());
  for (uint32_t layer = 0; layer < image.config().n_layers; ++layer) {
    for (size_t i = 0; i < 600;
         ++i) {  // handed over at local positions: 300 more make them absolute
      rope.rotate(&second.k[layer][i * width], image.config().n_kv_heads, 300);
    }
    expect_near(second.k[layer], std::span(whole.k[layer]).subspan(300 * width), bounds.pieces_kv);
    expect_near(second.v[layer], std::span(whole.v[layer]).subspan(300 * width), bounds.pieces_kv);
    // Queries are handed over as K is; the last token's is in both samples.
    const size_t all_heads = size_t{image.config().n_heads} * image.config().head_dim;
    std::vector<float> last(second.q[layer].end() - static_cast<ptrdiff_t>(all_heads),
                            second.q[layer].end());
    rope.rotate(last.data(), image.config().n_heads, 300);
    expect_near(last, std::span(whole.q[layer]).last(all_heads), bounds.pieces_kv);
  }
}

TEST_P(Prefills, RoundToWhatTheyPromise) {
  const Bounds& bounds = GetParam();
  const ModelImage& image = *real_model();
  const auto tokens = fixture().window().first(256);
  Kept exact, kept;
  std::vector<float> reference, logits;
  ASSERT_TRUE(prefill(image, job_for(tokens, exact, &reference), 2));
  ASSERT_TRUE(prefill(image, job_for(tokens, kept, &logits, bounds), 2));
  const double kld = test::compare(reference, logits, image.config().n_vocab).median_kld;
  std::printf("KLD to f32: median %.3g\n", kld);
  EXPECT_LE(kld, bounds.median_kld);
  EXPECT_EQ(kept.k == exact.k, bounds.precision == PrefillPrecision::f32) << "which of them ran";
}

INSTANTIATE_TEST_SUITE_P(, Prefills, testing::Values(kF32, kBest, kPacked, kFast),
                         [](const auto& tested) {
                           const Bounds& bounds = tested.param;
                           if (bounds.precision == PrefillPrecision::f32) return "F32";
                           if (bounds.precision == PrefillPrecision::fast) return "Fast";
                           return bounds.packed ? "Packed" : "Best";
                         });

TEST(Prefill, SampledQueriesAreSpreadAndEndWithTheLastToken) {
  EXPECT_EQ(query_tokens(1), std::vector<uint32_t>{0});
  EXPECT_EQ(query_tokens(3), (std::vector<uint32_t>{0, 1, 2}));
  for (const uint32_t n : {32u, 33u, 100u, 4096u, 1u << 24}) {
    const auto tokens = query_tokens(n);
    ASSERT_EQ(tokens.size(), kQueryTokens);
    EXPECT_EQ(tokens.back(), n - 1);
    for (size_t i = 0; i < tokens.size(); ++i) {
      const uint32_t before = i == 0 ? 0 : tokens[i - 1] + 1;
      EXPECT_LE(tokens[i] - before, n / kQueryTokens) << n;
    }
  }
}

TEST(Prefill, OneTokenWorksAloneAndAfterAPast) {
  POLYKV_NEEDS_MODEL();
  Kept first, second;
  std::vector<float> logits, after;
  ASSERT_TRUE(prefill(*real_model(), job_for(fixture().window().first(1), first, &logits), 1));
  EXPECT_LE(test::compare(fixture(), logits).median_kld, 1e-9);
  PrefillJob job = job_for(fixture().window().subspan(1, 1), second, &after);
  attach_past(job, first, 1);
  ASSERT_TRUE(prefill(*real_model(), job, 1));
  EXPECT_LE(test::compare(fixture(), after, 1).median_kld, 1e-9);
}

TEST(Prefill, AnErrorOfTheReceiverEndsItThere) {
  POLYKV_NEEDS_MODEL();
  PrefillJob job;
  job.tokens = fixture().window().first(4);
  uint32_t layers = 0, last_done = 0, all = 0;
  job.layer_done = [&](const LayerKv&) -> Status {
    if (++layers == 3) return fail(ErrorCode::memory_limit, "no room for layer 2", "2");
    return {};
  };
  job.progress = [&](uint32_t done, uint32_t of) { last_done = done, all = of; };
  const Status status = prefill(*real_model(), job, 1);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::memory_limit);
  EXPECT_EQ(status.error().message, "no room for layer 2");
  EXPECT_EQ(layers, 3u);
  EXPECT_EQ(last_done, 2u);
  EXPECT_EQ(all, real_model()->config().n_layers);
}

TEST(Prefill, RefusesNoTokensTooManyAndStrangeOnes) {
  POLYKV_NEEDS_MODEL();
  PrefillJob job;
  EXPECT_EQ(prefill(*real_model(), job, 1).error().code, ErrorCode::bad_text);
  const std::vector<uint32_t> strange = {1, 60000};
  job.tokens = strange;
  const Status outside = prefill(*real_model(), job, 1);
  EXPECT_EQ(outside.error().code, ErrorCode::internal);
  EXPECT_NE(outside.error().message.find("60000"), std::string::npos);
  job.tokens = fixture().window().first(10);
  job.past_tokens = 8190;
  job.past = [](uint32_t, float*, float*) {};
  const Status too_long = prefill(*real_model(), job, 1);
  EXPECT_EQ(too_long.error().code, ErrorCode::context_too_long);
  EXPECT_EQ(too_long.error().value, "8200");
  EXPECT_EQ(too_long.error().limit, "8192");
}

std::string path_of(PrefillPrecision precision, const Kernels* kernels) {
  PrefillJob job;
  job.precision = precision;
  job.kernels = kernels;
  return describe_path(*real_model(), job);
}

// Whatever is chosen is said: by which precision, kernels and processor.
TEST(PrefillPath, IsSaidInWords) {
  POLYKV_NEEDS_MODEL();
  using enum PrefillPrecision;
  const bool split = can_split();
  EXPECT_EQ(path_of(f32, nullptr), "f32");
  EXPECT_EQ(path_of(f32, &kernels()), "f32");
  EXPECT_EQ(path_of(best, nullptr), split ? "best: products halves, attention halves"
                                          : "best: products f32, attention f32");
  EXPECT_EQ(path_of(best, &kernels()), split ? "best: products integers, attention halves"
                                             : "best: products integers, attention f32");
  Kernels other = kernels();
  other.name = "avx512";
  EXPECT_EQ(path_of(fast, &other), split ? "fast: products integers, attention bfloat16"
                                         : "fast: products integers, attention f32");
  if (!split || kernels().name != "amx") return;
  EXPECT_EQ(path_of(fast, &kernels()), "fast: products tiles, attention tiles");
}

}  // namespace
}  // namespace polykv
