// Pools that nobody wants any more while they are written: cancelled, past their deadline, or asked
// for by somebody who is gone. By a clock that is set by hand.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "tests/launch/clock_runtime.h"

namespace polykv {
namespace {

using testing::expect_error;

constexpr const char* kUntilDropped = "until dropped";  // the writer works on it that long

class SessionCancel : public testing::ClockRuntime {
 protected:
  void SetUp() override { start(clock_options()); }

  static Message request_for(const std::string& pool, const std::string& text) {
    return Message("pool_create").set("pool", pool).set("codec", "k4v4").set("text", text);
  }
  // A request that the writer has begun.
  std::string begun(const Message& request) {
    const std::string id = sent(request);
    EXPECT_EQ(next(id).type(), "progress");
    return id;
  }
  std::string begun(const std::string& pool, const std::string& text) {
    return begun(request_for(pool, text));
  }
  void expect_failed(const std::string& id, const char* code) {
    const Message answer = next(id);
    EXPECT_EQ(answer.type(), "error");
    EXPECT_EQ(answer.text("code"), code) << answer.text("message");
  }
  // The cancelled request is answered first, then the cancel.
  void expect_cancelled(const std::string& id) {
    const std::string cancel = sent(Message("cancel").set("request", id));
    expect_failed(id, "cancelled");
    EXPECT_EQ(next(cancel).type(), "ok");
  }
  // How many prefills the writer has been given.
  std::string prefills() {
    const auto told = create("count", "count");
    return told ? "" : told.error().message;
  }
  void expect_writer_idle_again() {
    while (model().text("writer_state") != "ready" && !HasFailure()) {
    }
    EXPECT_EQ(model().integer("writer_restarts"), 0);
  }
  std::string fifo() {
    EXPECT_EQ(::mkfifo(temp("fifo").c_str(), 0600), 0);
    return temp("fifo");
  }
  void open_fifo() { std::ofstream(temp("fifo")).close(); }
  UniqueFd memory(const std::string& text) {
    auto shared = share_bytes("polykv-text", std::as_bytes(std::span(text)), {});
    EXPECT_TRUE(shared);
    return shared ? std::move(*shared) : UniqueFd();
  }
  // A connection with a request, "r1", that the writer has begun.
  FdSocket begun_by_link() {
    auto link = FdSocket::connect(runtime() + "/fd");
    Message request = Message("pool_create").set("pool", "main").set("codec", "k4v4");
    const UniqueFd text = memory(kUntilDropped);
    check(link && link->send(request.set("id", "r1").dump(), {text.get()}), "a link can be made");
    EXPECT_TRUE(link->receive());  // its progress
    return std::move(*link);
  }
};

TEST_F(SessionCancel, stops_what_the_writer_is_at_and_frees_the_name) {
  const std::string id = begun("main", kUntilDropped);
  expect_cancelled(id);
  const auto again = create("main");
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->integer("version"), 1);
  EXPECT_EQ(model().integer("writer_restarts"), 0);
}

TEST_F(SessionCancel, append_that_was_cancelled_leaves_the_pool_as_it_was) {
  ASSERT_TRUE(create("main"));
  const std::string id = begun(Message("append").set("pool", "main").set("text", kUntilDropped));
  expect_cancelled(id);
  EXPECT_EQ(pool("main").integer("version"), 1);
  ASSERT_TRUE(append("main", "more"));
}

TEST_F(SessionCancel, what_was_finished_nevertheless_is_not_published) {
  const std::string id = begun("main", "wait:" + fifo());
  expect_cancelled(id);
  const std::string behind = sent(request_for("main", "a document"));
  open_fifo();
  const Message ready = next(behind);
  EXPECT_EQ(ready.type(), "progress");
  EXPECT_EQ(next(behind).type(), "pool_ready");
  EXPECT_EQ(pool("main").integer("tokens"), 10) << "the one that was asked for again";
  EXPECT_EQ(pools(), "main");
}

TEST_F(SessionCancel, what_waits_in_line_never_starts) {
  const std::string first = begun("first", "wait:" + fifo());
  const std::string waits = sent(request_for("second", "a document"));
  expect_cancelled(waits);
  open_fifo();
  EXPECT_EQ(next(first).type(), "pool_ready");
  EXPECT_EQ(prefills(), "2") << "the first one and this";
  ASSERT_TRUE(create("second"));
}

TEST_F(SessionCancel, deadline_ends_what_is_written_and_what_waits) {
  const std::string writes = begun(request_for("a", kUntilDropped).set("deadline_seconds", 5.0));
  const std::string waits = sent(request_for("b", "a document").set("deadline_seconds", 4.0));
  (void)status();  // so that both have arrived
  pass_seconds(4);
  (void)sent(Message("status"));
  expect_failed(waits, "timed_out");
  pass_seconds(1);
  (void)sent(Message("status"));
  const Message late = next(writes);
  EXPECT_EQ(late.text("code"), "timed_out");
  EXPECT_EQ(late.text("limit"), "5 seconds");
  ASSERT_TRUE(create("a") && create("b"));
  EXPECT_EQ(pools(), "a b");
}

TEST_F(SessionCancel, deadline_is_an_hour_where_none_is_said) {
  const std::string id = begun("main", kUntilDropped);
  pass_seconds(3599);
  EXPECT_EQ(model().text("writer_state"), "busy");
  pass_seconds(1);
  (void)sent(Message("status"));
  expect_failed(id, "timed_out");
}

TEST_F(SessionCancel, deadline_of_what_is_done_does_nothing) {
  ASSERT_TRUE(client().ask(request_for("main", "a document").set("deadline_seconds", 5.0)));
  pass_seconds(5);
  EXPECT_EQ(pools(), "main");
}

TEST_F(SessionCancel, requests_of_a_vanished_client_are_dropped) {
  {
    auto vanishing = Client::connect(runtime(), guard());
    ASSERT_TRUE(vanishing);
    ASSERT_TRUE(vanishing->send(request_for("main", kUntilDropped)));
    ASSERT_TRUE(vanishing->receive());  // its progress
    ASSERT_TRUE(vanishing->send(request_for("other", "a document")));
  }
  expect_writer_idle_again();
  ASSERT_TRUE(create("main"));
  EXPECT_EQ(prefills(), "3") << "the dropped one, the new one and this; 'other' never came";
}

TEST_F(SessionCancel, request_by_a_link_ends_with_the_link) {
  (void)begun_by_link();
  expect_writer_idle_again();
  ASSERT_TRUE(create("main"));
}

TEST_F(SessionCancel, works_by_link_too) {
  FdSocket link = begun_by_link();
  ASSERT_TRUE(link.send(Message("cancel").set("id", "r2").set("request", "r1").dump()));
  const auto answer = link.receive();
  ASSERT_TRUE(answer);
  EXPECT_EQ(Message::parse(answer->text)->text("code"), "cancelled");
  const auto ok = link.receive();
  ASSERT_TRUE(ok);
  EXPECT_EQ(Message::parse(ok->text)->text("id"), "r2");
}

TEST_F(SessionCancel, of_what_has_ended_or_never_was_is_no_fault) {
  const std::string id = sent(request_for("main", "a document"));
  while (next(id).type() == "progress") {
  }
  for (const std::string& ended : {id, std::string("never")}) {
    EXPECT_TRUE(client().ask(Message("cancel").set("request", ended)));
  }
  EXPECT_EQ(pools(), "main");
}

TEST_F(SessionCancel, leaves_another_clients_request_of_the_same_id_alone) {
  const std::string id = begun("main", kUntilDropped);
  auto other = ControlClient::connect(runtime() + "/ctl", "other");
  ASSERT_TRUE(other);
  ASSERT_TRUE(other->send(Message("cancel").set("id", "c").set("request", id)));
  const auto ok = other->receive(-1, guard());
  ASSERT_TRUE(ok && *ok);
  EXPECT_EQ((*ok)->type(), "ok");
  EXPECT_EQ(model().text("writer_state"), "busy");
  expect_cancelled(id);
}

TEST_F(SessionCancel, memory_promised_to_a_cancelled_pool_is_free_when_the_writer_lets_go) {
  const std::string long_text(90, 'x');
  ASSERT_TRUE(create("probe", long_text));
  const int64_t image = model().integer("image_bytes");
  SupervisorOptions options = clock_options();
  options.budget = static_cast<uint64_t>(image + (held() - image) * 3 / 2);  // one, not two
  (void)session().stop();
  start(options);
  const std::string id = begun("main", "wait:" + fifo());
  expect_cancelled(id);
  const std::string waits = sent(request_for("next", long_text));
  open_fifo();
  EXPECT_EQ(next(waits).type(), "progress") << "its room is asked for when the writer is free";
  EXPECT_EQ(next(waits).type(), "pool_ready");
}

}  // namespace
}  // namespace polykv
