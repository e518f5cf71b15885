// What a stream shows, and when.
#include "model/text_stream.h"

#include <gtest/gtest.h>

#include <random>

#include "model/tokenizer.h"

namespace polykv {
namespace {

using Stops = std::vector<std::string>;

std::string streamed(const Stops& stops, const std::vector<std::string>& chunks) {
  TextStream stream(stops);
  std::string out;
  for (const auto& chunk : chunks) out += stream.push(chunk);
  return out + stream.finish();
}

TEST(TextStream, PlainTextPassesAtOnce) {
  TextStream stream({});
  EXPECT_EQ(stream.push("Hello"), "Hello");
  EXPECT_EQ(stream.push(" world"), " world");
  EXPECT_EQ(stream.finish(), "");
  EXPECT_FALSE(stream.stopped());
}

TEST(TextStream, SplitCharacterWaitsUntilItIsWhole) {
  TextStream stream({});
  EXPECT_EQ(stream.push("a\xf0"), "a");
  EXPECT_EQ(stream.push("\x9f\x98"), "");
  EXPECT_EQ(stream.push("\x80!"), "\U0001f600!");
}

TEST(TextStream, BytesThatCannotBecomeACharacterAreReplaced) {
  EXPECT_EQ(streamed({}, {"a\xff", "b"}), "a\ufffdb");
  EXPECT_EQ(streamed({}, {"\x80"}), "\ufffd");
  EXPECT_EQ(streamed({}, {"\xe2\x82", "x"}), "\ufffdx") << "one for the part of a character";
  EXPECT_EQ(streamed({}, {"\xed\xa0\x80"}), "\ufffd\ufffd\ufffd") << "a surrogate";
  EXPECT_EQ(streamed({}, {"\xc0", "\xaf"}), "\ufffd\ufffd") << "an overlong form";
}

TEST(TextStream, UnfinishedCharacterAtTheEndIsReplaced) {
  TextStream stream({});
  EXPECT_EQ(stream.push("ok\xe2\x82"), "ok");
  EXPECT_EQ(stream.finish(), "\ufffd");
}

TEST(TextStream, StopStringEndsTheTextAndIsNotPartOfIt) {
  TextStream stream({"END"});
  EXPECT_EQ(stream.push("some END more"), "some ");
  EXPECT_TRUE(stream.stopped());
  EXPECT_EQ(stream.push("even more"), "");
  EXPECT_EQ(stream.finish(), "");
}

TEST(TextStream, BeginningOfAStopStringIsHeldBack) {
  TextStream stream({"<end>"});
  EXPECT_EQ(stream.push("text <e"), "text ");
  EXPECT_EQ(stream.push("n"), "");
  EXPECT_EQ(stream.push("ough"), "<enough");
  EXPECT_EQ(stream.push("<end"), "");
  EXPECT_EQ(stream.push(">tail"), "");
  EXPECT_TRUE(stream.stopped());
}

TEST(TextStream, HeldBackBeginningIsTextAtTheEnd) {
  EXPECT_EQ(streamed({"STOP"}, {"a ST"}), "a ST");
}

TEST(TextStream, SelfOverlappingStopStringIsFound) {
  EXPECT_EQ(streamed({"aab"}, {"xa", "a", "a", "b", "y"}), "xa");
}

TEST(TextStream, StopStringThatIsCompleteFirstWins) {
  EXPECT_EQ(streamed({"abcd", "bc"}, {"xabcdy"}), "xa");
  EXPECT_EQ(streamed({"bc", "abc"}, {"xabc"}), "x") << "both end together: the earlier beginning";
}

TEST(TextStream, EmptyStopStringMeansNothing) { EXPECT_EQ(streamed({""}, {"text"}), "text"); }

TEST(TextStream, StopStringOfManyBytesPerCharacterIsFoundAcrossChunks) {
  EXPECT_EQ(streamed({"\u3002"}, {"a\xe3", "\x80", "\x82z"}), "a");
}

TEST(TextStream, ResultDoesNotDependOnHowTheBytesArrive) {
  constexpr unsigned kSeed = 7;
  SCOPED_TRACE(testing::Message() << "seed " << kSeed);
  std::mt19937 random(kSeed);
  const Stops stops = {"abca", "\u20acb", "cc"};
  const std::string parts[] = {"a", "b", "c", "\u20ac", "\U0001f600", "\xff", "\xe2", "ab"};
  for (int round = 0; round < 3000; ++round) {
    std::string whole;
    for (auto n = random() % 12; n > 0; --n) whole += parts[random() % std::size(parts)];
    std::vector<std::string> chunks;
    for (size_t at = 0; at < whole.size(); at += chunks.back().size()) {
      chunks.push_back(whole.substr(at, 1 + random() % 3));
    }
    const std::string out = streamed(stops, chunks);
    ASSERT_EQ(out, streamed(stops, {whole})) << testing::PrintToString(chunks);
    ASSERT_EQ(invalid_utf8(out), std::nullopt);
    for (const auto& stop : stops) ASSERT_EQ(out.find(stop), std::string::npos);
  }
}

}  // namespace
}  // namespace polykv
