// What a supervisor says to messages that no honest client sends, and that it goes on afterwards.
#include <gtest/gtest.h>
#include <unistd.h>
#include <zmq.h>

#include <algorithm>

#include "tests/launch/fake_runtime.h"

namespace polykv {
namespace {

using testing::expect_error;

constexpr int kWaitMs = 60'000;  // far more than is needed: a wait that ends here is a failure

// A DEALER that sends any bytes at all.
class RawClient {
 public:
  explicit RawClient(const std::string& runtime)
      : context_(zmq_ctx_new()), socket_(zmq_socket(context_, ZMQ_DEALER)) {
    const int at_once = 0;
    zmq_setsockopt(socket_, ZMQ_LINGER, &at_once, sizeof at_once);
    zmq_setsockopt(socket_, ZMQ_RCVTIMEO, &kWaitMs, sizeof kWaitMs);
    EXPECT_EQ(zmq_connect(socket_, ("ipc://" + runtime + "/ctl").c_str()), 0);
  }
  ~RawClient() {
    zmq_close(socket_);
    zmq_ctx_term(context_);
  }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  void send(const std::string& bytes) {
    EXPECT_EQ(zmq_send(socket_, bytes.data(), bytes.size(), 0), static_cast<int>(bytes.size()));
  }
  Message receive() {
    std::string bytes(1 << 20, '\0');
    const int n = zmq_recv(socket_, bytes.data(), bytes.size(), 0);
    auto message =
        Message::parse(std::string_view(bytes).substr(0, static_cast<size_t>(std::max(0, n))));
    EXPECT_TRUE(message) << message.error().message;
    return message ? *message : Message("none");
  }

 private:
  void* context_;
  void* socket_;
};

using SessionMessage = testing::FakeRuntime;

std::string deep(int levels) {
  std::string text = R"({"v":1,"type":"status","x":)";
  for (int i = 0; i < levels; ++i) text += "[";
  for (int i = 0; i < levels; ++i) text += "]";
  return text + "}";
}

TEST_F(SessionMessage, malformed_messages_are_answered_and_the_next_good_one_works) {
  start();
  RawClient raw(runtime());
  const std::string bad[] = {
      "",
      "{",
      "[]",
      "\xff\xfe",
      "null",
      R"({"v":1})",
      R"({"v":1,"type":"no such type"})",
      R"({"v":1,"type":"status","surplus":1})",
      R"({"v":1,"type":"cancel"})",
      R"({"v":1,"type":"cancel","request":7})",
      R"({"v":1,"type":"status","id":"a","id":"b"})",
      deep(20),
      deep(100'000),
  };
  for (const std::string& text : bad) {
    raw.send(text);
    const Message refusal = raw.receive();
    EXPECT_EQ(refusal.type(), "error") << text.substr(0, 60);
    EXPECT_EQ(refusal.text("code"), "bad_message") << text.substr(0, 60);
    raw.send(R"({"v":1,"type":"status","id":"good"})");
    const Message good = raw.receive();
    EXPECT_EQ(good.type(), "snapshot") << "after " << text.substr(0, 60);
    EXPECT_EQ(good.text("id"), "good");
  }
}

TEST_F(SessionMessage, client_of_another_protocol_version_is_told_which_one_is_spoken) {
  start();
  RawClient raw(runtime());
  raw.send(R"({"v":2,"type":"hello","client":"newer","id":"h"})");
  const Message refusal = raw.receive();
  EXPECT_EQ(refusal.text("code"), "protocol_version");
  EXPECT_EQ(refusal.text("id"), "h");
  EXPECT_EQ(refusal.text("value"), "2");
  EXPECT_EQ(refusal.text("limit"), "1");
}

TEST_F(SessionMessage, refusal_carries_the_requests_id_and_the_fields_name) {
  start();
  RawClient raw(runtime());
  raw.send(R"({"v":1,"type":"generate","id":"q7","pool":"main","prompt":"x","max_tokens":"many"})");
  const Message refusal = raw.receive();
  EXPECT_EQ(refusal.text("id"), "q7");
  EXPECT_NE(refusal.text("message").find("max_tokens"), std::string::npos);
}

TEST_F(SessionMessage, oversized_message_costs_its_sender_the_connection_and_nobody_else_anything) {
  start();
  RawClient raw(runtime());
  raw.send(std::string(kMessageBytesMax + 1, ' '));
  EXPECT_EQ(status().type(), "snapshot");
  RawClient other(runtime());
  other.send(R"({"v":1,"type":"hello","client":"other"})");
  EXPECT_EQ(other.receive().type(), "welcome");
}

TEST_F(SessionMessage, message_of_the_greatest_size_is_read) {
  start();
  RawClient raw(runtime());
  std::string text = R"({"v":1,"type":"status","id":"big"})";
  text.append(kMessageBytesMax - text.size(), ' ');
  raw.send(text);
  EXPECT_EQ(raw.receive().type(), "snapshot");
}

TEST_F(SessionMessage, messages_that_clients_do_not_send_and_requests_without_id_are_refused) {
  start();
  expect_error(client().ask(Message("token").set("agent", "a01").set("text", "forged")),
               ErrorCode::bad_message, {"'token'"});
  RawClient raw(runtime());
  raw.send(R"({"v":1,"type":"agents_stop"})");
  const Message refusal = raw.receive();
  EXPECT_EQ(refusal.text("code"), "bad_message");
  EXPECT_NE(refusal.text("message").find("\"id\""), std::string::npos);
}

TEST_F(SessionMessage, nobody_else_becomes_the_writer) {
  start();
  auto stranger = FdSocket::connect(runtime() + "/fd");
  ASSERT_TRUE(stranger) << stranger.error().message;
  ASSERT_TRUE(stranger->send(Message("writer_hello").set("pid", ::getpid()).dump()));
  const auto packet = stranger->receive();
  ASSERT_TRUE(packet) << packet.error().message;
  const auto refusal = Message::parse(packet->text);
  ASSERT_TRUE(refusal) << refusal.error().message;
  EXPECT_EQ(refusal->text("code"), "runtime_busy");
  EXPECT_TRUE(make_pool("main", "a document"));
}

Result<Message> answer_by_link(FdSocket& link, const std::string& text,
                               const std::vector<int>& fds = {}) {
  if (auto sent = link.send(text, fds); !sent) return pass(sent);
  auto packet = link.receive();
  if (!packet) return pass(packet);
  return Message::parse(packet->text);
}

TEST_F(SessionMessage, packets_without_their_memory_or_without_sense_are_refused) {
  start();
  auto link = FdSocket::connect(runtime() + "/fd");
  ASSERT_TRUE(link) << link.error().message;
  Message create("pool_create");
  create.set("pool", "main").set("codec", "k4v4").set("id", "m1");
  const auto bare = answer_by_link(*link, create.dump());
  ASSERT_TRUE(bare) << bare.error().message;
  EXPECT_EQ(bare->text("code"), "bad_message");
  EXPECT_EQ(bare->text("id"), "m1");
  EXPECT_NE(bare->text("message").find("one descriptor, got 0"), std::string::npos);

  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd read_end(ends[0]), write_end(ends[1]);
  const auto no_memory = answer_by_link(*link, create.dump(), {read_end.get()});
  ASSERT_TRUE(no_memory) << no_memory.error().message;
  EXPECT_EQ(no_memory->text("code"), "bad_segment");

  const auto nonsense = answer_by_link(*link, "{");
  ASSERT_TRUE(nonsense) << nonsense.error().message;
  EXPECT_EQ(nonsense->text("code"), "bad_message");
  EXPECT_FALSE(link->receive()) << "who speaks nonsense is let go";
  EXPECT_TRUE(make_pool("main", "a document"));
}

TEST_F(SessionMessage, lease_on_what_is_not_there_or_for_another_model_is_refused) {
  start();
  ASSERT_TRUE(make_pool("main", "a document"));
  auto link = FdSocket::connect(runtime() + "/fd");
  ASSERT_TRUE(link) << link.error().message;
  Message attach("attach");
  attach.set("agent", "by-hand").set("pool", "none").set("version", 0);
  const auto gone = answer_by_link(*link, attach.dump());
  ASSERT_TRUE(gone) << gone.error().message;
  EXPECT_EQ(gone->text("code"), "version_gone");
  attach.set("pool", "main").set("fingerprint", std::string(32, '0'));
  const auto other = answer_by_link(*link, attach.dump());
  ASSERT_TRUE(other) << other.error().message;
  EXPECT_EQ(other->text("code"), "fingerprint_mismatch");
  EXPECT_EQ(other->text("value"), std::string(32, '0'));
  EXPECT_EQ(other->text("limit"), model().text("fingerprint"));
}

TEST_F(SessionMessage, shutdown_is_answered_and_ends_the_session) {
  start();
  EXPECT_TRUE(client().ask(Message("shutdown")));
  EXPECT_TRUE(session().wait());
  expect_error(Client::connect(runtime(), guard()), ErrorCode::not_running, {});
}

}  // namespace
}  // namespace polykv
