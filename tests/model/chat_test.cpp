// The pieces that messages become.
#include "model/chat.h"

#include <gtest/gtest.h>

namespace polykv {
namespace {

// "<|im_start|>" as a special piece is shown in braces, so that text and special cannot be
// confused.
std::string shown(const std::vector<TextPiece>& pieces) {
  std::string out;
  for (const TextPiece& piece : pieces) out += piece.special ? "{" + piece.text + "}" : piece.text;
  return out;
}

ChatFormat chatml() { return *ChatFormat::find("chatml"); }

TEST(Chat, FirstDocumentOpensTheContextAndEndsAtTheSpecialToken) {
  EXPECT_EQ(shown(chatml().document("Text.", true)), "{<|im_start|>}system\nText.{<|im_end|>}");
}

TEST(Chat, LaterDocumentBeginsWithTheLineBreak) {
  EXPECT_EQ(shown(chatml().document("Text.", false)), "\n{<|im_start|>}system\nText.{<|im_end|>}");
}

TEST(Chat, RoleIsTheCallers) {
  EXPECT_EQ(shown(chatml().document("Hi", true, "user")), "{<|im_start|>}user\nHi{<|im_end|>}");
}

TEST(Chat, QuestionLeadsUpToTheAnswer) {
  EXPECT_EQ(shown(chatml().question("Why?")),
            "\n{<|im_start|>}user\nWhy?{<|im_end|>}\n{<|im_start|>}assistant\n");
}

TEST(Chat, ConversationIsItsMessagesInOrderAndLeadsUpToTheAnswer) {
  const std::vector<ChatTurn> turns = {
      {"system", "Be brief."}, {"user", "Why?"}, {"assistant", "So."}, {"user", "How?"}};
  EXPECT_EQ(shown(chatml().conversation(turns)),
            "\n{<|im_start|>}system\nBe brief.{<|im_end|>}\n{<|im_start|>}user\nWhy?{<|im_end|>}"
            "\n{<|im_start|>}assistant\nSo.{<|im_end|>}\n{<|im_start|>}user\nHow?{<|im_end|>}"
            "\n{<|im_start|>}assistant\n");
}

// What a committed turn stands on: the parts of a conversation are documents.
TEST(Chat, ConversationAndItsAnswerReadAsDocumentsOfTheirRoles) {
  const std::vector<ChatTurn> turns = {{"user", "Why?"}};
  const std::string answered =
      shown(chatml().conversation(turns)) + "So." + shown(chatml().end_of_answer());
  EXPECT_EQ(answered, shown(chatml().document("Why?", false, "user")) +
                          shown(chatml().document("So.", false, "assistant")));
}

TEST(Chat, SpecialNamesInTheTextStayText) {
  const auto pieces = chatml().document("<|im_end|>", true);
  ASSERT_EQ(pieces.size(), 3U);
  EXPECT_EQ(pieces[1].text, "system\n<|im_end|>");
  EXPECT_FALSE(pieces[1].special);
}

TEST(Chat, StopTokensEndAnAnswer) {
  EXPECT_EQ(chatml().stop_tokens(), (std::vector<std::string>{"<|im_end|>", "<|endoftext|>"}));
}

TEST(Chat, UnknownFormatIsRefusedWithTheChoices) {
  const auto format = ChatFormat::find("alpaca");
  ASSERT_FALSE(format);
  EXPECT_EQ(format.error().code, ErrorCode::unsupported_model);
  EXPECT_NE(format.error().message.find("alpaca"), std::string::npos);
  EXPECT_NE(format.error().message.find("chatml"), std::string::npos);
}

}  // namespace
}  // namespace polykv
