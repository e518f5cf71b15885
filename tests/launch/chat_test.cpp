// A conversation's state: what it sends, what it may commit; and lines from a pipe.
#include "launch/chat.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "ipc/fd.h"
#include "launch/line_reader.h"
#include "tests/launch/expect_error.h"

namespace polykv {
namespace {

using testing::expect_error;

Message answer(const std::string& text, int64_t version = 3, const std::string& agent = "a02") {
  Message done("done");
  done.set("agent", agent).set("pid", 1).set("pool", "main").set("version", version);
  return done.set("reason", "eos").set("text", text).set("prompt_tokens", 1).set("tokens", 1);
}

std::vector<std::string> said_in(const Message& request) {
  std::vector<std::string> texts;
  for (const Message& message : request.objects("messages")) {
    texts.push_back(message.text("role") + ": " + message.text("content"));
  }
  return texts;
}

using Texts = std::vector<std::string>;

TEST(Conversation, follow_ups_go_with_all_that_was_said_to_the_same_agent_and_version) {
  Conversation talk{AskCommand{}};
  const Message first = talk.request("one?");
  EXPECT_EQ(said_in(first), Texts{"user: one?"});
  EXPECT_FALSE(first.has("agent"));
  EXPECT_FALSE(first.has("version"));
  talk.answered("one?", answer("One."), "r1");
  const Message second = talk.request("two?");
  EXPECT_EQ(said_in(second), (Texts{"user: one?", "assistant: One.", "user: two?"}));
  EXPECT_EQ(second.text("agent"), "a02");
  EXPECT_EQ(second.integer("version"), 3);
  EXPECT_TRUE(Message::parse(second.dump())) << second.dump();
}

TEST(Conversation, its_last_answer_can_be_committed_and_is_then_the_pools) {
  Conversation talk{AskCommand{}};
  expect_error(talk.committable(), ErrorCode::usage, {"nothing has been said"});
  talk.answered("one?", answer("One."), "r1");
  EXPECT_EQ(*talk.committable(), "r1");
  talk.committed(Message("committed").set("version", 4));
  EXPECT_EQ(said_in(talk.request("two?")), Texts{"user: two?"});
  EXPECT_EQ(talk.request("two?").integer("version"), 4);
  expect_error(talk.committable(), ErrorCode::usage, {"nothing has been said"});
}

TEST(Conversation, what_was_undone_or_failed_is_neither_said_nor_committed) {
  Conversation talk{AskCommand{}};
  EXPECT_FALSE(talk.undo());
  talk.answered("one?", answer("One."), "r1");
  talk.answered("two?", answer("Two."), "r2");
  EXPECT_TRUE(talk.undo());
  EXPECT_EQ(talk.turns(), 1u);
  expect_error(talk.committable(), ErrorCode::conflict, {"undone"});
  talk.answered("three?", answer("Three."), "r3");
  EXPECT_EQ(*talk.committable(), "r3");
  talk.failed({ErrorCode::cancelled, "cancelled", {}, {}});
  expect_error(talk.committable(), ErrorCode::conflict, {"cancelled"});
  EXPECT_EQ(talk.turns(), 2u);
  EXPECT_EQ(talk.request("four?").text("agent"), "a02");
}

TEST(Conversation, after_its_agents_death_any_agent_goes_on) {
  Conversation talk{AskCommand{}};
  talk.answered("one?", answer("One."), "r1");
  talk.failed({ErrorCode::agent_lost, "dead", {}, {}});
  const Message next = talk.request("two?");
  EXPECT_FALSE(next.has("agent"));
  EXPECT_EQ(next.objects("messages").size(), 3u);
  EXPECT_EQ(next.integer("version"), 3);
}

TEST(Conversation, a_new_one_begins_on_the_version_that_was_asked_for) {
  AskCommand command;
  command.version = 2;
  command.agent = "mine";
  Conversation talk{command};
  talk.answered("one?", answer("One.", 2, "mine"), "r1");
  talk.committed(Message("committed").set("version", 5));
  talk.restart();
  EXPECT_EQ(talk.request("two?").integer("version"), 2);
  EXPECT_EQ(talk.request("two?").text("agent"), "mine");
}

class Lines : public ::testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    out_ = UniqueFd(ends[0]);
    in_ = UniqueFd(ends[1]);
  }
  void write(const std::string& text) {
    ASSERT_EQ(::write(in_.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  UniqueFd in_, out_;
};

TEST_F(Lines, come_whole_whatever_the_reads_were) {
  LineReader reader(out_.get());
  write("one\r\ntw");
  ASSERT_TRUE(reader.fill());
  EXPECT_EQ(reader.next(), "one");
  EXPECT_EQ(reader.next(), std::nullopt);
  write("o\n\nlast");
  ASSERT_TRUE(reader.fill());
  EXPECT_EQ(reader.next(), "two");
  EXPECT_EQ(reader.next(), "");
  EXPECT_EQ(reader.next(), std::nullopt);
  in_ = UniqueFd();
  ASSERT_TRUE(reader.fill());
  EXPECT_TRUE(reader.ended());
  EXPECT_EQ(reader.next(), "last");
  EXPECT_EQ(reader.next(), std::nullopt);
}

TEST_F(Lines, one_that_never_ends_is_refused) {
  LineReader reader(out_.get());
  Status status;
  const std::string part(60'000, 'x');
  for (size_t n = 0; n <= kLineBytesMax && status; n += part.size()) {
    write(part);
    status = reader.fill();
  }
  expect_error(status, ErrorCode::bad_text, {"900000"});
}

}  // namespace
}  // namespace polykv
