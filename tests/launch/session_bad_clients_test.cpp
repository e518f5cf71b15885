// Clients that speak out of turn, never read, or come all at once: each is answered or let go, and
// nobody else notices.
#include <gtest/gtest.h>
#include <zmq.h>

#include "tests/launch/linked_runtime.h"

namespace polykv {
namespace {

using testing::expect_error;

constexpr int kWaitMs = 60'000;  // far more than is needed: a wait that ends here is a failure

// Many DEALERs of one process.
class Crowd {
 public:
  Crowd(const std::string& runtime, int count, int queue = 1000) : context_(zmq_ctx_new()) {
    for (int i = 0; i < count; ++i) {
      void* socket = sockets_.emplace_back(zmq_socket(context_, ZMQ_DEALER));
      const int at_once = 0;
      zmq_setsockopt(socket, ZMQ_LINGER, &at_once, sizeof at_once);
      zmq_setsockopt(socket, ZMQ_RCVTIMEO, &kWaitMs, sizeof kWaitMs);
      zmq_setsockopt(socket, ZMQ_SNDTIMEO, &kWaitMs, sizeof kWaitMs);
      zmq_setsockopt(socket, ZMQ_RCVHWM, &queue, sizeof queue);
      EXPECT_EQ(zmq_connect(socket, ("ipc://" + runtime + "/ctl").c_str()), 0);
    }
  }
  ~Crowd() {
    for (void* socket : sockets_) zmq_close(socket);
    zmq_ctx_term(context_);
  }
  Crowd(const Crowd&) = delete;
  Crowd& operator=(const Crowd&) = delete;

  bool send(size_t who, const std::string& text) {
    return zmq_send(sockets_[who], text.data(), text.size(), 0) == static_cast<int>(text.size());
  }
  Message receive(size_t who) {
    std::string bytes(1 << 20, '\0');
    const int n = zmq_recv(sockets_[who], bytes.data(), bytes.size(), 0);
    auto message = Message::parse(std::string_view(bytes).substr(0, n > 0 ? n : 0));
    return message ? *message : Message("none");
  }

 private:
  void* context_;
  std::vector<void*> sockets_;
};

class SessionBadClients : public testing::LinkedRuntime {
 protected:
  static Message attach(const std::string& agent) {
    return Message("attach").set("agent", agent).set("pool", "main").set("version", 0);
  }
};

TEST_F(SessionBadClients, two_hundred_at_once_are_all_answered) {
  start();
  constexpr size_t kCount = 200;
  Crowd crowd(runtime(), kCount);
  for (size_t i = 0; i < kCount; ++i) {
    ASSERT_TRUE(crowd.send(i, cat(R"({"v":1,"type":"status","id":"c)", i, "\"}")));
  }
  for (size_t i = 0; i < kCount; ++i) {
    const Message answer = crowd.receive(i);
    EXPECT_EQ(answer.type(), "snapshot");
    EXPECT_EQ(answer.text("id"), cat("c", i));
  }
}

TEST_F(SessionBadClients, one_that_never_reads_costs_nobody_else_anything) {
  start_with_agents(1);
  Crowd silent(runtime(), 1, 1);
  for (int i = 0; i < 5'000; ++i) {
    ASSERT_TRUE(silent.send(0, R"({"v":1,"type":"status","id":"s"})"));
    if (i % 1'000 == 0) expect_answer("hello");
  }
  expect_answer("still here");
}

TEST_F(SessionBadClients, link_that_never_reads_costs_nobody_else_anything) {
  start();
  FdSocket silent = link();
  const Message request = Message("tokenize").set_id("job", 1).set("form", "raw").set("id", "t");
  const std::string text = "a text";
  const auto memory = share_bytes("polykv-text", std::as_bytes(std::span(text)), {});
  ASSERT_TRUE(memory);
  for (int i = 0; i < 2'000; ++i) ASSERT_TRUE(silent.send(request.dump(), {memory->get()}));
  ASSERT_TRUE(make_pool("main", "a document"));
}

TEST_F(SessionBadClients, half_a_packet_is_answered_and_its_sender_let_go) {
  start();
  const std::string whole = attach("x").dump();
  for (size_t bytes : {size_t{1}, whole.size() / 2, whole.size() - 1}) {
    FdSocket half = link();
    ASSERT_TRUE(half.send(whole.substr(0, bytes)));
    EXPECT_EQ(heard(half).text("code"), "bad_message") << bytes;
    EXPECT_FALSE(half.receive()) << bytes;
  }
  ASSERT_TRUE(make_pool("main", "a document"));
}

TEST_F(SessionBadClients, packets_out_of_turn_change_nothing) {
  start_with_agents(1);
  const std::string before = status().objects("pools").at(0).dump();
  for (const Message& answer :
       {Message("scores").set("rows", 1).set("vocab", 1),
        Message("granted")
            .set("pool", "main")
            .set("version", 1)
            .set("fingerprint", "f")
            .set("spans", 1),
        Message("tokens").set_id("job", 1).set("count", 3), Message("have").set("fingerprint", "f"),
        Message("drop_job").set_id("job", 1)}) {
    FdSocket stranger = link();
    ASSERT_TRUE(stranger.send(Message(answer).set("id", "x").dump()));
    EXPECT_EQ(heard(stranger).text("code"), "bad_message") << answer.type();
  }
  FdSocket lease = link();
  ASSERT_TRUE(lease.send(attach("hand").dump()));
  EXPECT_EQ(heard(lease).type(), "granted");
  for (const Message& again : {attach("a01"), Message("writer_hello").set("pid", 1),
                               Message("scores").set("rows", 1).set("vocab", 1)}) {
    ASSERT_TRUE(lease.send(again.dump())) << "a lease takes none of these, and says nothing";
  }
  expect_answer("hello", "a01");
  lease = FdSocket();
  while (status().objects("pools").at(0).integer("leases") > 1 && !HasFailure()) {
  }
  EXPECT_EQ(status().objects("pools").at(0).dump(), before);
}

TEST_F(SessionBadClients, versions_that_are_gone_are_refused_with_those_that_are_there) {
  start_with_agents(1);
  for (const char* type : {"pool_pin", "pool_unpin", "pool_fork", "agents_start", "generate"}) {
    Message message = Message(type).set("pool", "main").set("version", 9);
    if (message.type() == "pool_fork") message.set("to", "copy");
    if (message.type() == "agents_start") message.set("count", 1);
    if (message.type() == "generate") message.set("prompt", "?").set("max_tokens", 1);
    const auto refused = client().ask(message);
    expect_error(refused, ErrorCode::version_gone, {"version 9", "'main'", "there is 1"});
    EXPECT_EQ(refused.error().value, "9");
    EXPECT_EQ(refused.error().limit, "1");
  }
}

}  // namespace
}  // namespace polykv
