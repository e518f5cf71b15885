// A supervisor whose writer dies, lies or refuses: a job fails by name, nothing half-done shows.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>
#include <fstream>

#include "tests/launch/fake_runtime.h"
#include "tests/launch/small_segment.h"

namespace polykv {
namespace {

using testing::expect_error;
using testing::fake_options;
using testing::small_model;

using SessionWriter = testing::FakeRuntime;

TEST_F(SessionWriter, text_becomes_a_pool_and_status_shows_it) {
  start();
  const auto pool = make_pool("main", "twenty bytes of text");
  ASSERT_TRUE(pool) << pool.error().message;
  EXPECT_EQ(pool->integer("tokens"), 20);
  EXPECT_EQ(pool->integer("version"), 1);
  EXPECT_EQ(pool->integer("prefill_tokens"), 20);
  EXPECT_EQ(pool->integer("elements"), 2 * 2 * 1 * 64 * 20);
  EXPECT_DOUBLE_EQ(pool->number("bits_per_element"),
                   static_cast<double>(pool->integer("bytes")) * 8 / (2 * 2 * 1 * 64 * 20));
  const Message snapshot = status();
  EXPECT_EQ(model().text("fingerprint"), to_hex(small_model()));
  EXPECT_EQ(model().text("name"), "fake");
  ASSERT_EQ(snapshot.objects("pools").size(), 1u);
  EXPECT_EQ(snapshot.objects("pools")[0].integer("bytes"), pool->integer("bytes"));
  EXPECT_EQ(snapshot.integer("held_bytes"), 4096 + pool->integer("bytes"));
}

TEST_F(SessionWriter, death_in_a_prefill_costs_that_job_only_and_nothing_is_packed_again) {
  start();
  expect_error(make_pool("main", "crash"), ErrorCode::writer_lost, {"signal 9", "ask again"});
  EXPECT_TRUE(status().objects("pools").empty());
  const auto pool = make_pool("main", "a document");
  ASSERT_TRUE(pool) << pool.error().message;
  EXPECT_EQ(pool->integer("version"), 1);
  expect_error(make_pool("other", "tell"), ErrorCode::usage, {"given back"});
  EXPECT_EQ(model().integer("writer_restarts"), 1);
}

TEST_F(SessionWriter, death_in_an_append_leaves_the_version_before_and_its_agents_at_work) {
  start_with_agents(1);
  expect_error(append("main", "crash"), ErrorCode::writer_lost, {"signal 9"});
  expect_answer("still here", "a01");
  const Message pool = status().objects("pools").at(0);
  EXPECT_EQ(pool.integer("version"), 1);
  EXPECT_EQ(pool.integer("tokens"), 10);
  const auto appended = append("main", " and more");
  ASSERT_TRUE(appended) << appended.error().message;
  EXPECT_EQ(appended->integer("version"), 2);
  EXPECT_EQ(appended->integer("tokens"), 19);
  EXPECT_EQ(appended->integer("prefill_tokens"), 9);
  EXPECT_EQ(appended->integer("segments"), 2);
}

struct Lie {
  std::string document;
  ErrorCode code;
  std::string words;
};

TEST_F(SessionWriter, segment_that_is_not_what_was_asked_for_is_refused_and_never_shown) {
  start();
  const Lie lies[] = {
      {"other model", ErrorCode::fingerprint_mismatch, to_hex(small_model(0x11))},
      {"spoiled", ErrorCode::bad_segment, "checksum"},
      {"short", ErrorCode::bad_segment, "4 tokens in k4v4, expected 5"},
      {"no memory", ErrorCode::bad_message, "without memory"},
  };
  for (const Lie& lie : lies) {
    expect_error(make_pool("main", lie.document), lie.code, {lie.words});
    EXPECT_TRUE(status().objects("pools").empty()) << lie.document;
  }
  EXPECT_TRUE(make_pool("main", "a document"));
  EXPECT_EQ(model().integer("writer_restarts"), 0);
}

TEST_F(SessionWriter, nonsense_from_the_writer_ends_it_and_a_new_one_works) {
  start();
  expect_error(make_pool("main", "nonsense"), ErrorCode::writer_lost, {"the writer (pid "});
  EXPECT_TRUE(make_pool("main", "a document"));
  EXPECT_EQ(model().integer("writer_restarts"), 1);
}

TEST_F(SessionWriter, refusal_of_a_job_reaches_the_client_as_it_was_said) {
  start();
  const auto refused = make_pool("main", "refuse");
  expect_error(refused, ErrorCode::memory_limit, {"no room for it"});
  EXPECT_EQ(refused.error().value, "17");
  EXPECT_EQ(refused.error().limit, "4");
}

TEST_F(SessionWriter, one_that_keeps_dying_is_given_up_and_what_is_published_stays) {
  start_with_agents(1);
  for (int death = 0; death < 6; ++death) {
    expect_error(make_pool("more", "crash in tokenize"), ErrorCode::writer_lost, {"signal 9"});
  }
  expect_error(make_pool("more", "a document"), ErrorCode::writer_lost, {"not started again"});
  EXPECT_EQ(model().text("writer_state"), "failed");
  expect_answer("still here");
}

TEST_F(SessionWriter, model_that_cannot_be_packed_ends_the_session_with_the_reason) {
  SupervisorOptions options = fake_options();
  options.models = {{"main", "/model/bad"}};
  start(options);
  expect_error(session().wait(), ErrorCode::bad_model_file, {"/model/bad"});
}

TEST_F(SessionWriter, writer_that_always_dies_packing_ends_the_session) {
  SupervisorOptions options = fake_options();
  options.models = {{"main", "/model/crash"}};
  start(options);
  expect_error(session().wait(), ErrorCode::writer_lost, {"before it had packed"});
}

TEST_F(SessionWriter, text_beyond_the_models_positions_is_refused_with_what_would_fit) {
  start();
  const auto refused = make_pool("main", std::string(101, 'x'));
  expect_error(refused, ErrorCode::context_too_long, {"101 tokens", "first 100 of 101 bytes"});
  EXPECT_EQ(refused.error().value, "101");
  EXPECT_EQ(refused.error().limit, "100");
  expect_error(make_pool("main", std::string(60, 'x'), 41), ErrorCode::context_too_long,
               {"prompt and answer (41)", "101"});
  ASSERT_TRUE(make_pool("main", std::string(60, 'x'), 40));
  expect_error(append("main", std::string(41, 'y')), ErrorCode::context_too_long,
               {"60 tokens in the pool + 41 new ones"});
}

TEST_F(SessionWriter, budget_refuses_the_second_pool_and_names_what_holds_the_memory) {
  start();
  const auto first = make_pool("main", "a document");
  ASSERT_TRUE(first);
  const auto held = static_cast<uint64_t>(status().integer("held_bytes"));
  (void)session().stop();

  SupervisorOptions options = fake_options();
  options.budget = held + 10;
  start(options);
  ASSERT_TRUE(make_pool("main", "a document"));
  ASSERT_TRUE(client().ask(Message("pool_pin").set("pool", "main")));
  expect_error(make_pool("other", "a document"), ErrorCode::memory_limit,
               {"model image", "pool main", "pinned: 1"});
  EXPECT_EQ(status().objects("pools").size(), 1u);
  EXPECT_EQ(status().integer("budget_bytes"), static_cast<int64_t>(held + 10));
}

TEST_F(SessionWriter, pool_that_is_being_written_takes_no_second_text) {
  start();
  const std::string fifo = temp("fifo");
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  Message create("pool_create");
  create.set("pool", "main").set("codec", "k4v4").set("text", "wait:" + fifo);
  const std::string first = sent(create);
  ASSERT_EQ(next(first).type(), "progress");  // the writer waits on the fifo from here on
  expect_error(make_pool("main", "a document"), ErrorCode::usage, {"'main'", "being written"});
  std::ofstream(fifo).close();
  EXPECT_EQ(next(first).type(), "pool_ready");
  expect_error(make_pool("main", "a document"), ErrorCode::usage, {"'main'", "exists already"});
}

TEST_F(SessionWriter, requests_that_make_no_sense_never_reach_the_writer) {
  start();
  expect_error(create_pool(client(), "main", "k7v7", "text", 0), ErrorCode::unknown_codec,
               {"k7v7"});
  expect_error(make_pool("a/b", "text"), ErrorCode::usage, {"'a/b'"});
  expect_error(append("main", "text"), ErrorCode::version_gone, {"no pool 'main'"});
  Message missing("pool_create");
  missing.set("pool", "main").set("codec", "k4v4").set("path", temp("missing"));
  expect_error(client().ask(missing), ErrorCode::bad_text, {temp("missing")});
  Message empty("pool_create");
  empty.set("pool", "main").set("codec", "k4v4").set("text", "");
  expect_error(client().ask(empty), ErrorCode::bad_text, {"empty"});
  EXPECT_TRUE(make_pool("main", "text")) << "the name is free after the refusals";
}

TEST_F(SessionWriter, prefill_makes_a_pool_per_codec_and_none_without_a_codec) {
  start();
  const auto tokens = testing::counted_tokens(12);
  const auto memory = share_bytes("polykv-tokens", std::as_bytes(std::span(tokens)), {});
  ASSERT_TRUE(memory);
  Message prefill("prefill");
  prefill.set_id("job", 0).set("pool", "w").set("codecs", std::vector<std::string>{});
  expect_error(client().ask_with_memory(prefill, memory->get()), ErrorCode::usage, {"no codec"});
  prefill.set("codecs", std::vector<std::string>{"f32"});
  const auto ready = client().ask_with_memory(prefill, memory->get());
  ASSERT_TRUE(ready) << ready.error().message;
  EXPECT_EQ(ready->at(0).message.text("pool"), "w-f32");
  EXPECT_EQ(ready->at(0).message.integer("tokens"), 12);
}

TEST_F(SessionWriter, segment_follows_only_the_version_that_it_was_computed_on) {
  start();
  const auto tokens = testing::counted_tokens(12);
  const auto memory = share_bytes("polykv-tokens", std::as_bytes(std::span(tokens)), {});
  ASSERT_TRUE(memory);
  Message prefill("prefill");
  prefill.set_id("job", 0).set("pool", "w");
  prefill.set("codecs", std::vector<std::string>{"f32", "f32"});  // the same pool twice
  expect_error(client().ask_with_memory(prefill, memory->get(), 2), ErrorCode::conflict,
               {"'w-f32'", "meanwhile"});
  const auto pools = status().objects("pools");
  ASSERT_EQ(pools.size(), 1u);
  EXPECT_EQ(pools[0].integer("version"), 1);
  EXPECT_EQ(pools[0].integer("tokens"), 12);
}

TEST_F(SessionWriter, prefill_that_comes_before_the_model_is_packed_waits_for_it) {
  const std::string fifo = temp("fifo");
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  SupervisorOptions options = fake_options();
  options.models = {{"main", fifo}};
  start(options);
  const auto tokens = testing::counted_tokens(12);
  const auto memory = share_bytes("polykv-tokens", std::as_bytes(std::span(tokens)), {});
  ASSERT_TRUE(memory);
  auto link = FdSocket::connect(runtime() + "/fd");
  ASSERT_TRUE(link) << link.error().message;
  Message prefill("prefill");
  prefill.set_id("job", 0).set("pool", "w").set("codecs", std::vector<std::string>{"f32"});
  ASSERT_TRUE(link->send(prefill.set("id", "early").dump(), {memory->get()}));
  // Answered at once and in order: after this, the one before has been looked at.
  prefill.set("codecs", std::vector<std::string>{});
  ASSERT_TRUE(link->send(prefill.set("id", "second").dump(), {memory->get()}));
  std::vector<std::string> heard;
  while (heard.empty() || heard.back() != "early pool_ready ") {
    const auto packet = link->receive();
    ASSERT_TRUE(packet) << packet.error().message;
    const auto message = Message::parse(packet->text);
    ASSERT_TRUE(message) << message.error().message;
    heard.push_back(cat(message->text("id"), ' ', message->type(), ' ', message->text("phase")));
    if (heard.size() == 1) std::ofstream(fifo).close();  // now the model may be packed
  }
  EXPECT_EQ(heard, (std::vector<std::string>{"second error ", "early progress packing the model",
                                             "early progress prefill", "early pool_ready "}))
      << "who waits for the model is told how far it is";
}

TEST_F(SessionWriter, end_of_a_session_leaves_no_process_and_no_file) {
  start_with_agents(2);
  const Message snapshot = status();
  std::vector<int64_t> pids{model().integer("writer_pid")};
  for (const Message& agent : snapshot.objects("agents")) pids.push_back(agent.integer("pid"));
  ASSERT_EQ(pids.size(), 3u);
  EXPECT_TRUE(session().stop());
  for (const int64_t pid : pids) {
    EXPECT_EQ(::kill(static_cast<pid_t>(pid), 0), -1) << pid << " is still there";
  }
  EXPECT_FALSE(std::filesystem::exists(runtime()));
}

TEST_F(SessionWriter, second_supervisor_in_the_same_directory_is_refused) {
  start();
  expect_error(Session::start(fake_options(), runtime(), guard()), ErrorCode::runtime_busy,
               {cat("pid ", ::getpid()), runtime()});
  EXPECT_TRUE(make_pool("main", "a document")) << "the first one works on";
}

TEST_F(SessionWriter, missing_writer_program_is_an_error_that_names_it) {
  SupervisorOptions options = fake_options();
  options.writer_program = temp("no-writer");
  expect_error(Session::start(options, runtime(), guard()), ErrorCode::io, {temp("no-writer")});
  EXPECT_FALSE(std::filesystem::exists(runtime()));
}

}  // namespace
}  // namespace polykv
