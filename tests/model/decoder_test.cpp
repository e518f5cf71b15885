// The native forward pass against an independent implementation, and its bits against its own.
#include "model/decoder.h"

#include <algorithm>

#include "tests/model/floats.h"
#include "tests/model/logits_fixture.h"
#include "tests/model/plain_attention.h"
#include "tests/model/real_model.h"

namespace polykv {
namespace {

using test::PlainAttention;
using test::real_model;
using test::same_bits;

const test::LogitsFixture& fixture() {
  static const auto read =
      test::read_logits_fixture(POLYKV_SOURCE_DIR "/tests/fixtures/logits.bin");
  return read;
}

// Logits of every token, decoded `chunk` tokens a step.
std::vector<float> decode(std::span<const uint32_t> tokens, uint32_t chunk, unsigned n_threads,
                          std::string_view kernel_set = "") {
  const ModelImage& image = *real_model();
  const Kernels kernels = choose_kernels(kernel_set)->set;
  ThreadTeam team(n_threads);
  Decoder decoder(image, kernels, team);
  PlainAttention attention(image.config());
  std::vector<float> logits(tokens.size() * image.config().n_vocab);
  for (uint32_t at = 0; at < tokens.size(); at += chunk) {
    const auto part = tokens.subspan(at, std::min<size_t>(chunk, tokens.size() - at));
    decoder.step(part, at, attention, static_cast<uint32_t>(part.size()),
                 &logits[size_t{at} * image.config().n_vocab]);
  }
  return logits;
}

// A sanitizer makes a step ten times as long: there the beginning has to do.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t kComparedMax = 64;
#else
constexpr size_t kComparedMax = 512;
#endif

TEST(Decoder, PredictsWhatAnIndependentImplementationPredicts) {
  POLYKV_NEEDS_MODEL();
  const size_t n_compared = std::min<size_t>(kComparedMax, fixture().n_positions);
  const std::vector<float> logits = decode(fixture().window().first(n_compared), 32, 2);
  const test::Agreement found = test::compare(fixture(), logits);
  std::printf("KLD median %.3g mean %.3g, top-1 same %.4f\n", found.median_kld, found.mean_kld,
              found.same_top);
  // Activations of 16 bits: measured 9e-8 and 1.5e-7 (in f32 it was 1e-12).
  EXPECT_LE(found.median_kld, 3e-7);
  EXPECT_LE(found.mean_kld, 6e-7);
  EXPECT_GE(found.same_top, 0.998);
  for (size_t i = 0; i < fixture().full_positions.size(); ++i) {
    const size_t n = fixture().n_vocab, ours = fixture().full_positions[i] * n;
    if (fixture().full_positions[i] >= n_compared) continue;
    for (size_t t = 0; t < n; ++t) {
      ASSERT_NEAR(logits[ours + t], fixture().full_logits[i * n + t], 1e-2) << "token " << t;
    }
  }
}

TEST(Decoder, TheReferenceKernelsPredictTheSame) {
  POLYKV_NEEDS_MODEL();
  const std::vector<float> logits = decode(fixture().window().first(48), 16, 2, "ref");
  EXPECT_LE(test::compare(fixture(), logits).median_kld, 5e-7);
}

// Packed weights give the same bits everywhere; what remains is rounding of norms and attention,
// which no set replaces.
TEST(Decoder, EveryKernelSetGivesTheSameBits) {
  POLYKV_NEEDS_MODEL();
  const auto tokens = fixture().window().first(6);
  const std::vector<float> wanted = decode(tokens, 6, 1, "ref");
  for (const Kernels& set : kernel_sets()) {
    EXPECT_TRUE(same_bits(decode(tokens, 6, 1, set.name), wanted)) << set.name;
  }
}

TEST(Decoder, BitsDoNotDependOnThreadsOrChunks) {
  POLYKV_NEEDS_MODEL();
  const auto tokens = fixture().window().first(40);
  const std::vector<float> one_by_one = decode(tokens, 1, 1);
  EXPECT_TRUE(same_bits(one_by_one, decode(tokens, 1, 2)));
  EXPECT_TRUE(same_bits(one_by_one, decode(tokens, 7, 1)));
  EXPECT_TRUE(same_bits(one_by_one, decode(tokens, 32, 3)));
}

TEST(Decoder, GivesLogitsOfTheLastRowsOnly) {
  POLYKV_NEEDS_MODEL();
  const ModelImage& image = *real_model();
  const size_t n_vocab = image.config().n_vocab;
  const auto tokens = fixture().window().first(5);
  const std::vector<float> all = decode(tokens, 5, 1);
  const Kernels kernels = choose_kernels()->set;
  ThreadTeam team(1);
  Decoder decoder(image, kernels, team);
  PlainAttention none(image.config()), two(image.config());
  decoder.step(tokens, 0, none, 0, nullptr);
  std::vector<float> last(2 * n_vocab);
  decoder.step(tokens, 0, two, 2, last.data());
  EXPECT_TRUE(same_bits(last, {all.end() - static_cast<long>(last.size()), all.end()}));
  EXPECT_TRUE(same_bits(none.keys(29), two.keys(29)));
}

// The comparison itself must see an error: the fixture shifted by one position is far off.
TEST(LogitsFixture, ComparisonSeesAnOffByOne) {
  POLYKV_NEEDS_MODEL();
  const std::vector<float> logits = decode(fixture().window().first(32), 32, 2);
  EXPECT_GT(test::compare(fixture(), logits, 1).median_kld, 1e-3);
}

}  // namespace
}  // namespace polykv
