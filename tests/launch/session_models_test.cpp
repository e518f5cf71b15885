// Several models in one runtime: each with its writer, its pools and its agents.
#include <gtest/gtest.h>

#include "tests/launch/fake_runtime.h"
#include "tests/launch/small_segment.h"

namespace polykv {
namespace {

using testing::expect_error;

class SessionModels : public testing::FakeRuntime {
 protected:
  void start_two(const std::string& second = "/model/other") {
    SupervisorOptions options = testing::fake_options();
    options.models = {{"main", "/model/ok"}, {"other", second}};
    ASSERT_NO_FATAL_FAILURE(start(options));
  }

  // The answer to a request about a model; "" names none.
  Result<Message> ask(Message request, const std::string& model) {
    if (!model.empty()) request.set("model", model);
    return client().ask(std::move(request));
  }
  Result<Message> create(const std::string& pool, const std::string& model,
                         const std::string& text = "a document") {
    Message request("pool_create");
    return ask(request.set("pool", pool).set("codec", "k4v4").set("text", text), model);
  }
  Result<Message> agents(const std::string& pool, const std::string& model) {
    return ask(Message("agents_start").set("pool", pool).set("count", 1), model);
  }

  Message model_status(const std::string& name) {
    for (const Message& model : status().objects("models")) {
      if (model.text("model") == name) return model;
    }
    ADD_FAILURE() << "no model " << name;
    return Message("none");
  }

  // What the supervisor says to an agent that attaches.
  Message attached(Message attach) {
    auto link = FdSocket::connect(runtime() + "/fd");
    attach.set("agent", "by-hand").set("version", 0);
    if (!link || !link->send(attach.dump())) return Message("none");
    auto packet = link->receive();
    auto answer = packet ? Message::parse(packet->text) : Result<Message>(pass(packet));
    return answer ? *answer : Message("none");
  }
};

TEST_F(SessionModels, have_pools_of_their_own_under_the_same_name) {
  start_two();
  const auto first = create("main", "", "a document");
  const auto second = create("main", "other", "another one");
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->text("model"), "main") << "where none is named the first is meant";
  EXPECT_EQ(second->text("model"), "other");
  EXPECT_EQ(second->integer("version"), 1);
  EXPECT_EQ(model_status("main").text("image_source"), "packed");
  EXPECT_EQ(model_status("other").text("image_source"), "cache") << "as its writer says";
  ASSERT_TRUE(ask(Message("append").set("pool", "main").set("text", "more"), "other"));
  const auto pools = status().objects("pools");
  ASSERT_EQ(pools.size(), 2U);
  EXPECT_EQ(pools[0].text("model"), "main");
  EXPECT_EQ(pools[0].integer("version"), 1);
  EXPECT_EQ(pools[1].text("model"), "other");
  EXPECT_EQ(pools[1].integer("version"), 2);
  ASSERT_TRUE(ask(Message("pool_drop").set("pool", "main"), "other"));
  EXPECT_EQ(status().objects("pools").size(), 1U);
}

TEST_F(SessionModels, are_all_in_the_snapshot) {
  start_two();
  ASSERT_TRUE(create("main", "") && create("main", "other"));
  const auto models = status().objects("models");
  ASSERT_EQ(models.size(), 2U);
  EXPECT_EQ(models[0].text("model"), "main");
  EXPECT_EQ(models[1].text("model"), "other");
  EXPECT_NE(models[0].text("fingerprint"), models[1].text("fingerprint"));
  EXPECT_NE(models[0].integer("writer_pid"), models[1].integer("writer_pid"));
  EXPECT_FALSE(models[1].has("last_error"));
}

TEST_F(SessionModels, one_that_is_not_there_is_refused_with_those_that_are) {
  start_two();
  ASSERT_TRUE(create("main", ""));
  const std::vector<Message> requests{
      Message("append").set("pool", "main").set("text", "more"),
      Message("pool_drop").set("pool", "main"),
      Message("pool_pin").set("pool", "main"),
      Message("pool_fork").set("pool", "main").set("to", "copy"),
      Message("agents_start").set("pool", "main").set("count", 1),
      Message("generate").set("pool", "main").set("prompt", "?").set("max_tokens", 1)};
  for (const Message& request : requests) {
    const auto refused = ask(request, "third");
    expect_error(refused, ErrorCode::version_gone, {"third", "main, other"});
    EXPECT_EQ(refused.error().value, "third");
  }
}

TEST_F(SessionModels, agents_work_only_for_their_own) {
  start_two();
  ASSERT_TRUE(create("main", "") && create("main", "other"));
  const auto of_main = agents("main", "");
  const auto no_agent = ask(request("hello"), "other");
  expect_error(no_agent, ErrorCode::agent_lost, {"model 'other'"});
  const auto of_other = agents("main", "other");
  ASSERT_TRUE(of_main && of_other);
  EXPECT_EQ(agent_status("a02").text("model"), "other");
  for (int round = 0; round < 3; ++round) {
    const auto done = ask(request("hello"), "other");
    ASSERT_TRUE(done) << done.error().message;
    EXPECT_EQ(done->text("agent"), "a02");
    EXPECT_EQ(done->text("model"), "other");
  }
  expect_error(ask(request("hello", "a01"), "other"), ErrorCode::usage, {"a01", "model 'main'"});
}

TEST_F(SessionModels, last_agent_of_one_that_dies_fails_what_waits_for_it_only) {
  start_two();
  ASSERT_TRUE(create("main", "") && create("main", "other"));
  ASSERT_TRUE(agents("main", "") && agents("main", "other"));
  const std::string hangs = sent(request("hang").set("model", "main"));
  EXPECT_EQ(next(hangs).type(), "token");
  const std::string waits = sent(request("hello").set("model", "main"));
  const std::string dies = sent(request("die").set("model", "other"));
  const std::string behind = sent(request("hello").set("model", "other"));
  for (const std::string& id : {dies, behind}) {
    EXPECT_EQ(next(id).text("code"), "agent_lost");
  }
  ASSERT_TRUE(client().ask(Message("cancel").set("request", hangs)));
  EXPECT_EQ(next(waits).text("text"), "hello");
}

TEST_F(SessionModels, lease_comes_with_its_own_fingerprint_or_not_at_all) {
  start_two();
  ASSERT_TRUE(create("main", "") && create("main", "other"));
  const std::string mine = model_status("main").text("fingerprint");
  const std::string others = model_status("other").text("fingerprint");
  const Message attach = Message("attach").set("pool", "main");
  EXPECT_EQ(attached(attach).text("fingerprint"), mine);
  const Message granted = attached(Message(attach).set("model", "other"));
  EXPECT_EQ(granted.text("fingerprint"), others);
  EXPECT_EQ(granted.text("model"), "other");
  const Message refused = attached(Message(attach).set("model", "other").set("fingerprint", mine));
  EXPECT_EQ(refused.text("code"), "fingerprint_mismatch");
  EXPECT_EQ(attached(Message(attach).set("model", "third")).text("code"), "version_gone");
}

TEST_F(SessionModels, one_that_cannot_be_packed_is_refused_and_the_others_go_on) {
  start_two("/model/bad");
  ASSERT_TRUE(create("main", ""));
  expect_error(create("main", "other"), ErrorCode::bad_model_file, {"/model/bad"});
  const Message failed = model_status("other");
  EXPECT_EQ(failed.text("writer_state"), "failed");
  EXPECT_NE(failed.text("last_error").find("/model/bad"), std::string::npos);
  EXPECT_EQ(failed.integer("writer_pid"), 0);
  ASSERT_TRUE(agents("main", ""));
  expect_answer("still here");
}

TEST_F(SessionModels, none_that_can_be_packed_ends_the_runtime) {
  SupervisorOptions options = testing::fake_options();
  options.models = {{"main", "/model/bad"}, {"other", "/model/bad"}};
  start(options);
  expect_error(session().wait(), ErrorCode::bad_model_file, {"/model/bad"});
}

TEST_F(SessionModels, death_of_one_writer_is_nothing_to_the_other) {
  start_two();
  ASSERT_TRUE(create("main", "") && create("main", "other"));
  const auto before = status().objects("models");
  expect_error(create("more", "other", "crash"), ErrorCode::writer_lost, {"signal 9"});
  const auto after = status().objects("models");
  EXPECT_EQ(after[0].integer("writer_pid"), before[0].integer("writer_pid"));
  EXPECT_EQ(after[0].integer("writer_restarts"), 0);
  EXPECT_EQ(after[1].integer("writer_restarts"), 1);
  ASSERT_TRUE(create("more", "other")) << "its new writer knows the model that it was given back";
}

TEST_F(SessionModels, need_names_that_tell_them_apart) {
  SupervisorOptions options = testing::fake_options();
  const auto refusal = [&](std::vector<ModelOptions> models) -> Result<bool> {
    options.models = std::move(models);
    auto session = Session::start(options, runtime(), guard());
    return session ? Result<bool>(true) : Result<bool>(pass(session));
  };
  expect_error(refusal({}), ErrorCode::usage, {"needs a model"});
  expect_error(refusal({{"a", "/x"}, {"a", "/y"}}), ErrorCode::usage, {"two models", "'a'"});
  expect_error(refusal({{"a b", "/x"}}), ErrorCode::usage, {"model name 'a b'"});
  expect_error(refusal({{"", "/x"}}), ErrorCode::usage, {"model name ''"});
}

}  // namespace
}  // namespace polykv
