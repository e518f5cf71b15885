// A running supervisor with a fake writer and fake agents, in a directory of its own.
#pragma once

#include <gtest/gtest.h>
#include <sys/timerfd.h>

#include <memory>
#include <string>

#include "launch/run_job.h"
#include "tests/ipc/temp_dir.h"
#include "tests/launch/expect_error.h"

namespace polykv::testing {

// Readable after two minutes: turns a wait for ever into a failure that says where.
inline UniqueFd guard_against_hanging() {
  UniqueFd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
  itimerspec when{};
  when.it_value.tv_sec = 120;
  ::timerfd_settime(timer.get(), 0, &when, nullptr);
  return timer;
}

inline SupervisorOptions fake_options() {
  SupervisorOptions options;
  options.models = {{"main", "/model/ok"}};
  options.writer_program = POLYKV_BINARY_DIR "/fake-writer";
  options.agent_program = POLYKV_BINARY_DIR "/fake-agent";
  return options;
}

class FakeRuntime : public ::testing::Test {
 protected:
  void start(const SupervisorOptions& options = fake_options()) {
    auto session = Session::start(options, runtime(), guard_.get());
    ASSERT_TRUE(session) << session.error().message;
    session_ = std::move(*session);
  }

  // A pool of this name over "a document", with agents "a01", "a02", …
  void start_with_agents(int64_t n_agents, const SupervisorOptions& options = fake_options()) {
    ASSERT_NO_FATAL_FAILURE(start(options));
    const auto pool = make_pool("main", "a document");
    ASSERT_TRUE(pool) << pool.error().message;
    const auto started = start_agents(client(), "main", n_agents);
    ASSERT_TRUE(started) << started.error().message;
  }

  std::string runtime() const { return temp_ / "rt"; }
  std::string temp(const std::string& name) const { return temp_ / name; }
  Session& session() { return *session_; }
  Client& client() { return session_->client(); }
  int guard() const { return guard_.get(); }

  Result<Message> make_pool(const std::string& pool, const std::string& text, int64_t reserve = 0) {
    return create_pool(client(), pool, "k4v4", text, reserve);
  }

  Result<Message> append(const std::string& pool, const std::string& text) {
    return client().ask(Message("append").set("pool", pool).set("text", text));
  }

  static Message request(const std::string& prompt, const std::string& agent = "") {
    Message message = generate_message("main", prompt, {});
    if (!agent.empty()) message.set("agent", agent);
    return message;
  }

  std::string sent(const Message& message) {
    auto id = client().send(message);
    EXPECT_TRUE(id) << id.error().message;
    return id ? *id : "";
  }

  // The next message to this request; those to others are dropped.
  Message next(const std::string& id) {
    while (true) {
      auto message = client().receive();
      if (!message) {
        ADD_FAILURE() << "waiting for " << id << ": " << message.error().message;
        return Message("none");
      }
      if (message->text("id") == id) return *message;
    }
  }

  Message status() {
    auto snapshot = client().ask(Message("status"));
    EXPECT_TRUE(snapshot) << snapshot.error().message;
    return snapshot ? *snapshot : Message("none");
  }

  Message model() { return status().objects("models").at(0); }

  Message agent_status(const std::string& name) {
    for (const Message& agent : status().objects("agents")) {
      if (agent.text("agent") == name) return agent;
    }
    ADD_FAILURE() << "no agent " << name;
    return Message("none");
  }

  void expect_answer(const std::string& prompt, const std::string& agent = "") {
    auto done = client().ask(request(prompt, agent));
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_EQ(done->text("text"), prompt);
  }

 private:
  TempDir temp_;
  UniqueFd guard_ = guard_against_hanging();
  std::unique_ptr<Session> session_;
};

}  // namespace polykv::testing
