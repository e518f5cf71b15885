// The pieces that messages become.
#include "model/chat.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "model/chat_styles.h"

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

// What models' own templates write (tests/scripts/make_chat_fixture.py).
class ChatFixture : public testing::Test {
 protected:
  static nlohmann::json read() {
    std::ifstream file(POLYKV_SOURCE_DIR "/tests/fixtures/chat.json");
    return nlohmann::json::parse(file);
  }
  static ChatFormat format_of(const nlohmann::json& entry) {
    return *ChatFormat::find(entry["format"].get<std::string>(), {entry["bos"], false});
  }
  static std::vector<ChatTurn> turns_of(const nlohmann::json& messages) {
    std::vector<ChatTurn> turns;
    for (const auto& message : messages) turns.push_back({message["role"], message["content"]});
    return turns;
  }
};

std::string text_of(const std::vector<TextPiece>& pieces) {
  std::string out;
  for (const TextPiece& piece : pieces) out += piece.text;
  return out;
}

TEST_F(ChatFixture, AConversationReadsAsTheTemplateWritesIt) {
  std::set<std::string> formats;
  for (const auto& entry : read()) {
    formats.insert(entry["format"]);
    for (const auto& one : entry["conversations"]) {
      EXPECT_EQ(text_of(format_of(entry).opening(turns_of(one["messages"]))),
                one["text"].get<std::string>())
          << entry["format"];
    }
  }
  EXPECT_EQ(formats.size() + 1, chat_styles().size()) << "all but plain, which has no template";
}

TEST_F(ChatFixture, TemplatesAreRecognised) {
  for (const auto& entry : read()) {
    EXPECT_EQ(recognise_chat_format(entry["recognised"].get<std::string>()),
              entry["format"].get<std::string>());
  }
  EXPECT_EQ(recognise_chat_format(""), std::nullopt);
  EXPECT_EQ(recognise_chat_format("[INST][/INST][SYSTEM_PROMPT]"), std::nullopt);
}

// The pool's document and a question make what the template makes of a system message and it.
TEST_F(ChatFixture, DocumentAndQuestionAreTheConversationsParts) {
  for (const auto& entry : read()) {
    const ChatFormat format = format_of(entry);
    const ChatTurn question{"user", "Why?"};
    std::vector<ChatTurn> turns = {{"system", "Doc"}, question};
    const std::vector<ChatTurn> instead = {{"user", "Doc"}, {"assistant", "Understood."}, question};
    const std::string name = entry["format"];
    const bool system = name != "llama2" && !name.starts_with("mistral") && name != "gemma";
    const auto document = format.document("Doc", true);
    EXPECT_EQ(text_of(document) + text_of(format.question("Why?")),
              text_of(format.opening(system ? turns : instead)))
        << name;
    EXPECT_TRUE(document.back().special) << name;
    EXPECT_TRUE(format.end_of_answer().back().special) << name;
  }
}

TEST(Chat, PlainIsTextAfterText) {
  const auto plain = ChatFormat::find("plain", {"<s>", true});
  EXPECT_EQ(shown(plain->document("One.", true)), "{<s>}One.");
  EXPECT_EQ(shown(plain->document("Two.", false)), "\n\nTwo.");
  EXPECT_EQ(shown(plain->question("And")), "\n\nAnd");
  EXPECT_TRUE(plain->end_of_answer().empty());
}

TEST(Chat, AContextBeginsWithTheVocabularysTokenWhereItSaysSo) {
  const auto chatml = ChatFormat::find("chatml", {"<s>", true});
  EXPECT_EQ(shown(chatml->document("T", true)), "{<s>}{<|im_start|>}system\nT{<|im_end|>}");
  EXPECT_EQ(shown(chatml->document("T", false)), "\n{<|im_start|>}system\nT{<|im_end|>}");
  const auto llama3 = ChatFormat::find("llama3", {"<|begin_of_text|>", false});
  EXPECT_EQ(llama3->document("T", true)[0].text, "<|begin_of_text|>") << "the format's own";
  EXPECT_EQ(ChatFormat::find("llama3")->document("T", true)[0].text, "<|start_header_id|>");
}

}  // namespace
}  // namespace polykv
