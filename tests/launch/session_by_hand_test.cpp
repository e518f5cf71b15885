// Writers and agents that are started by hand, from another shell, a service unit or a container.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>
#include <fstream>

#include "tests/launch/fake_runtime.h"

namespace polykv {
namespace {

using testing::expect_error;

class SessionByHand : public testing::FakeRuntime {
 protected:
  void start_waiting() {
    SupervisorOptions options = testing::fake_options();
    options.models = {{.name = "main", .path = "/model/ok"},
                      {.name = "hand", .path = "/model/other", .writer_by_hand = true}};
    ASSERT_NO_FATAL_FAILURE(start(options));
  }
  Child writer(const std::string& model) {
    return started("/fake-writer", {"--runtime", runtime(), "--model", model});
  }
  Child agent(const std::string& name) {
    return started("/fake-agent", {"--runtime", runtime(), "--agent", name, "--pool", "main",
                                   "--pool-version", "0"});
  }
  static Child started(const char* program, const std::vector<std::string>& arguments) {
    auto child = Child::start(std::string(POLYKV_BINARY_DIR) + program, arguments);
    EXPECT_TRUE(child) << child.error().message;
    return child ? std::move(*child) : Child();
  }
  static Message create(const std::string& pool, const std::string& text = "a document") {
    Message request("pool_create");
    return request.set("model", "hand").set("pool", pool).set("codec", "k4v4").set("text", text);
  }
  Message hand() { return status().objects("models").at(1); }
  void await_state(const char* state) {
    while (hand().text("writer_state") != state && !HasFailure()) {
    }
  }
};

TEST_F(SessionByHand, writer_is_the_first_that_names_its_model) {
  start_waiting();
  EXPECT_EQ(hand().text("writer_state"), "awaited");
  EXPECT_EQ(hand().integer("writer_pid"), 0);
  const std::string id = sent(create("main"));  // waits for a writer
  Child first = writer("hand");
  EXPECT_EQ(next(id).type(), "progress");
  EXPECT_EQ(next(id).type(), "pool_ready");
  EXPECT_EQ(hand().integer("writer_pid"), first.pid()) << "the kernel's, not the message's";
  Child second = writer("hand");
  ASSERT_TRUE(second.wait(60'000)) << "there is one already";
  EXPECT_EQ(hand().integer("writer_pid"), first.pid());
}

TEST_F(SessionByHand, what_a_writer_does_without_is_shown_as_long_as_it_is_the_writer) {
  start_waiting();
  EXPECT_TRUE(status().texts("fallbacks").empty());
  Child first = started("/fake-writer", {"--runtime", runtime(), "--model", "hand", "--fallback",
                                         "tiles failed their self-test"});
  ASSERT_TRUE(client().ask(create("main")));
  const std::vector<std::string> wanted{"writer of hand: tiles failed their self-test"};
  EXPECT_EQ(status().texts("fallbacks"), wanted);
  first.signal(SIGKILL);
  await_state("awaited");
  Child second = writer("hand");
  ASSERT_TRUE(client().ask(create("more")));
  EXPECT_TRUE(status().texts("fallbacks").empty()) << "the next one has none";
}

TEST_F(SessionByHand, writer_of_a_model_that_starts_its_own_is_sent_away) {
  start_waiting();
  Child stranger = writer("main");
  ASSERT_TRUE(stranger.wait(60'000));
  Child lost = writer("third");
  ASSERT_TRUE(lost.wait(60'000));
  ASSERT_TRUE(make_pool("main", "a document"));
}

TEST_F(SessionByHand, writer_that_goes_away_is_waited_for_without_another_packing) {
  start_waiting();
  Child first = writer("hand");
  ASSERT_TRUE(client().ask(create("main")));
  first.signal(SIGKILL);
  await_state("awaited");
  EXPECT_EQ(hand().integer("writer_restarts"), 1);
  const std::string id = sent(create("more", "tell"));
  Child second = writer("hand");
  Message answer = next(id);
  while (answer.type() == "progress") answer = next(id);
  EXPECT_EQ(answer.text("message"), "given back") << "the image";
  EXPECT_EQ(hand().integer("writer_pid"), second.pid());
}

TEST_F(SessionByHand, writer_that_dies_with_a_job_fails_that_job_however_often) {
  start_waiting();
  for (int death = 0; death < 8; ++death) {
    Child one = writer("hand");
    expect_error(client().ask(create("main", "crash")), ErrorCode::writer_lost, {"went away"});
    await_state("awaited");
  }
  Child last = writer("hand");
  ASSERT_TRUE(client().ask(create("main")));
}

TEST_F(SessionByHand, writer_that_cannot_pack_ends_nothing_and_the_next_may_do_better) {
  SupervisorOptions options = testing::fake_options();
  const std::string path = temp("link");
  options.models = {{.name = "main", .path = path, .writer_by_hand = true}};
  start(options);
  Child first = writer("main");
  while (!model().has("last_error") && !HasFailure()) {
  }
  expect_error(make_pool("main", "a document"), ErrorCode::bad_model_file, {path});
  EXPECT_EQ(model().text("writer_state"), "awaited");
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);  // a model now
  Child second = writer("main");
  std::ofstream(path).close();
  while (model().has("last_error") && !HasFailure()) {
  }
  ASSERT_TRUE(make_pool("main", "a document"));
}

TEST_F(SessionByHand, agent_is_known_by_the_pid_that_the_kernel_says) {
  start();
  ASSERT_TRUE(make_pool("main", "a document"));
  Child one = agent("mine");
  while (status().objects("agents").empty() && !HasFailure()) {
  }
  EXPECT_EQ(agent_status("mine").integer("pid"), one.pid());
  const auto done = client().ask(request("hello", "mine"));
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->integer("pid"), one.pid());
  one.signal(SIGKILL);
  while (agent_status("mine").text("state") != "ended" && !HasFailure()) {
  }
  EXPECT_NE(agent_status("mine").text("last_error").find("connection ended"), std::string::npos);
}

}  // namespace
}  // namespace polykv
