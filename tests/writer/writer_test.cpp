// The writer on its connection, with the real model: jobs that are dropped.
#include "writer/writer.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <thread>

#include "tests/model/real_model.h"

namespace polykv {
namespace {

// A writer on a thread; this side plays the supervisor.
class WriterJobs : public ::testing::Test {
 protected:
  void SetUp() override {
    POLYKV_NEEDS_MODEL();
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    supervisor_ = FdSocket(UniqueFd(ends[0]));
    writer_ = std::thread([fd = ends[1]] {
      (void)Writer(FdSocket(UniqueFd(fd)), {.n_threads = 1, .finish = {}}).serve();
    });
    EXPECT_EQ(heard().type(), "writer_hello");
    const ModelImage& image = *test::real_model();
    Message have("have");
    have.set("fingerprint", to_hex(image.fingerprint()));
    ASSERT_TRUE(supervisor_.send(have.dump(), {image.memory().fd()}));
  }
  void TearDown() override {
    supervisor_ = FdSocket();
    if (writer_.joinable()) writer_.join();
  }

  Message heard() {
    auto packet = supervisor_.receive();
    auto message = packet ? Message::parse(packet->text) : Result<Message>(pass(packet));
    EXPECT_TRUE(message);
    return message ? *message : Message("none");
  }

  void prefill(uint64_t job, const char* codec = "k4v4") {
    const std::vector<uint32_t> tokens(64, 100);
    const auto memory = share_bytes("polykv-tokens", std::as_bytes(std::span(tokens)), {});
    ASSERT_TRUE(memory);
    Message request("prefill");
    request.set_id("job", job).set("codecs", std::vector<std::string>{codec}).set("pool", "p");
    ASSERT_TRUE(supervisor_.send(request.dump(), {memory->get()}));
  }
  void drop(uint64_t job) {
    ASSERT_TRUE(supervisor_.send(Message("drop_job").set_id("job", job).dump()));
  }
  // The last message of a job, and how many layers were told of before it.
  Message outcome(int64_t& layers) {
    layers = 0;
    Message message = heard();
    for (; message.type() == "progress"; message = heard()) ++layers;
    return message;
  }

  FdSocket supervisor_;
  std::thread writer_;
};

TEST_F(WriterJobs, dropped_one_ends_between_two_layers) {
  prefill(1);
  drop(1);
  int64_t layers = 0;
  const Message failed = outcome(layers);
  EXPECT_EQ(failed.text("code"), "cancelled");
  EXPECT_EQ(failed.id("job"), 1U);
  EXPECT_LT(layers, int64_t{test::real_model()->config().n_layers} - 1);
}

TEST_F(WriterJobs, one_that_was_dropped_before_it_came_or_after_it_was_done_disturbs_no_other) {
  drop(7);
  prefill(8);
  drop(7);
  int64_t layers = 0;
  EXPECT_EQ(outcome(layers).type(), "segment");
  EXPECT_EQ(layers, test::real_model()->config().n_layers);
  drop(8);
  prefill(9);
  EXPECT_EQ(outcome(layers).type(), "segment");
}

TEST_F(WriterJobs, what_comes_during_a_job_is_done_after_it) {
  prefill(1);
  prefill(2);
  int64_t layers = 0;
  EXPECT_EQ(outcome(layers).id("job"), 1U);
  EXPECT_EQ(outcome(layers).id("job"), 2U);
}

TEST_F(WriterJobs, ASegmentComesWithHowItWasPrefilled) {
  int64_t layers = 0;
  prefill(1);
  const Message coarse = outcome(layers);
  EXPECT_EQ(coarse.type(), "segment");
  EXPECT_TRUE(coarse.text("precision").starts_with("fast: products ")) << "of k4v4";
  prefill(2, "f16");
  EXPECT_TRUE(outcome(layers).text("precision").starts_with("best: products "));
}

}  // namespace
}  // namespace polykv
