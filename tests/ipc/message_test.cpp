// Control messages: round trips, and every way in which a stranger's message can be wrong.
#include "ipc/message.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace polykv {
namespace {

constexpr const char* kHead = R"({"v":1,"type":)";

// The refusal of a text that must be refused.
Error refusal(const std::string& text, ErrorCode code = ErrorCode::bad_message) {
  auto message = Message::parse(text);
  EXPECT_FALSE(message) << "was taken: " << text.substr(0, 200);
  if (message) return {};
  EXPECT_EQ(message.error().code, code);
  return message.error();
}

bool names(const Error& error, const std::string& what) {
  return error.message.find(what) != std::string::npos;
}

Message generate() {
  return Message("generate").set("pool", "main").set("prompt", "why?").set("max_tokens", 10);
}

TEST(Message, every_kind_of_field_survives_the_wire) {
  Message sent = generate();
  sent.set("id", "request-1").set("temperature", 0.25).set("ignore_eos", true);
  sent.set("version", int64_t{3}).set("stop", std::vector<std::string>{"a", "ü"});
  sent.set_id("seed", std::numeric_limits<uint64_t>::max());
  auto got = Message::parse(sent.dump());
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_EQ(got->type(), "generate");
  EXPECT_EQ(got->text("id"), "request-1");
  EXPECT_EQ(got->integer("max_tokens"), 10);
  EXPECT_EQ(got->integer("version"), 3);
  EXPECT_EQ(got->number("temperature"), 0.25);
  EXPECT_TRUE(got->flag("ignore_eos"));
  EXPECT_EQ(got->texts("stop"), (std::vector<std::string>{"a", "ü"}));
  EXPECT_EQ(got->id("seed"), std::numeric_limits<uint64_t>::max());
}

TEST(Message, absent_optional_fields_read_as_what_the_caller_says) {
  const Message message = generate();
  EXPECT_FALSE(message.has("temperature"));
  EXPECT_EQ(message.number("temperature", 0.5), 0.5);
  EXPECT_EQ(message.integer("top_k", 40), 40);
  EXPECT_EQ(message.text("agent", "any"), "any");
  EXPECT_EQ(message.id("seed"), 0u);
  EXPECT_TRUE(message.texts("stop").empty());
  EXPECT_TRUE(message.objects("stop").empty());
}

Message snapshot() {
  Message pool("pool_status");
  pool.set("pool", "main").set("version", 1).set("codec", "k4v4").set("tokens", 4096);
  pool.set("bytes", 23'990'000).set("bits_per_element", 4.13).set("segments", 1);
  pool.set("model", "m").set("leases", 3).set("idle_seconds", 0.5);
  Message version("version_status");
  version.set("version", 1).set("tokens", 4096).set("leases", 3).set("pinned", false);
  pool.set("versions", std::vector<Message>{version});
  Message message("snapshot");
  message.set_id("seq", 9).set_id("agent_seq", 2).set_id("token_seq", 1);
  message.set("pid", 7).set("held_bytes", 1).set("evicted_pools", 0);
  message.set("fallbacks", std::vector<std::string>()).set("models", std::vector<Message>());
  message.set("pools", std::vector<Message>{pool, pool});
  message.set("agents", std::vector<Message>());
  return message;
}

TEST(Message, nested_objects_survive_the_wire_with_their_type) {
  auto got = Message::parse(snapshot().dump());
  ASSERT_TRUE(got) << got.error().message;
  const auto pools = got->objects("pools");
  ASSERT_EQ(pools.size(), 2u);
  EXPECT_EQ(pools[1].type(), "pool_status");
  EXPECT_EQ(pools[1].text("codec"), "k4v4");
  EXPECT_EQ(pools[1].integer("bytes"), 23'990'000);
  EXPECT_EQ(got->id("seq"), 9u);
}

TEST(Message, lists_of_integers_survive_the_wire) {
  Message done("done");
  done.set("agent", "a0").set("pid", 1).set("pool", "main").set("version", 1);
  done.set("reason", "eos").set("text", "").set("prompt_tokens", 1).set("tokens", 2);
  done.set("token_ids", std::vector<int64_t>{0, 49'151});
  auto got = Message::parse(done.dump());
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_EQ(got->integers("token_ids"), (std::vector<int64_t>{0, 49'151}));
}

TEST(Message, invalid_utf8_is_replaced_when_sent_and_refused_when_received) {
  Message message("error");
  message.set("code", "io").set("message", "bad \xff byte").set("value", "").set("limit", "");
  auto got = Message::parse(message.dump());
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_EQ(got->text("message"), "bad \xef\xbf\xbd byte");
  refusal(std::string(kHead) + "\"hello\",\"client\":\"\xff\"}");
  refusal(std::string(kHead) + "\"hello\",\"client\":\"\xc0\xaf\"}");
}

TEST(Message, numbers_that_json_cannot_hold_are_sent_as_finite_ones) {
  Message message("progress");
  message.set("phase", "x").set("done", 0).set("all", 1);
  for (const double rate : {std::numeric_limits<double>::infinity(), std::nan("")}) {
    EXPECT_TRUE(Message::parse(message.set("rate", rate).dump())) << rate;
  }
}

TEST(Message, malformed_text_is_refused_with_the_place) {
  const std::string broken[] = {
      "",   " ",  "{",    "nonsense", "{\"v\":1,}",    "{}{}",       "\"text\"",
      "[]", "17", "null", "{'v':1}",  "{\"v\":1e999}", "// comment", "\xef\xbb\xbf{"};
  for (const std::string& text : broken) refusal(text);
  EXPECT_TRUE(names(refusal("{\"v\": nope}"), "byte 8"));
  EXPECT_TRUE(names(refusal("[]"), "array"));
}

TEST(Message, every_truncation_of_a_message_is_refused) {
  const std::string whole = snapshot().dump();
  for (size_t size = 0; size < whole.size(); ++size) refusal(whole.substr(0, size));
}

TEST(Message, another_protocol_version_is_refused_with_both_versions) {
  const Error error = refusal(R"({"v":2,"type":"status"})", ErrorCode::protocol_version);
  EXPECT_TRUE(names(error, "version 2"));
  EXPECT_TRUE(names(error, "speaks version 1"));
  EXPECT_EQ(error.value, "2");
  EXPECT_EQ(error.limit, "1");
  EXPECT_TRUE(names(refusal(R"({"type":"status"})"), "'v'"));
  refusal(R"({"v":"1","type":"status"})", ErrorCode::protocol_version);
  refusal(R"({"v":1.0,"type":"status"})", ErrorCode::protocol_version);
}

TEST(Message, unknown_missing_and_nested_types_are_refused_by_name) {
  EXPECT_TRUE(names(refusal(R"({"v":1,"type":"explode"})"), "explode"));
  EXPECT_TRUE(names(refusal(R"({"v":1})"), "'type'"));
  EXPECT_TRUE(names(refusal(R"({"v":1,"type":7})"), "type"));
  EXPECT_TRUE(names(refusal(R"({"v":1,"type":"pool_status"})"), "pool_status"));
}

TEST(Message, unknown_fields_are_refused_by_name_wherever_they_are) {
  EXPECT_TRUE(names(refusal(R"({"v":1,"type":"status","colour":"red"})"), "'colour'"));
  std::string nested = snapshot().dump();
  nested.replace(nested.find("\"segments\""), 10, "\"sexments\"");
  EXPECT_TRUE(names(refusal(nested), "'pools[0].sexments'"));
  // An object inside a message has no version and type of its own.
  nested = snapshot().dump();
  nested.insert(nested.find("\"bits_per_element\""), "\"v\":1,");
  EXPECT_TRUE(names(refusal(nested), "'pools[0].v'"));
}

TEST(Message, missing_fields_are_refused_by_name) {
  EXPECT_TRUE(names(refusal(R"({"v":1,"type":"hello"})"), "'client'"));
  std::string nested = snapshot().dump();
  const std::string field = "\"tokens\":4096,";
  nested.erase(nested.find(field), field.size());
  EXPECT_TRUE(names(refusal(nested), "'pools[0].tokens'"));
}

TEST(Message, a_key_that_comes_twice_is_refused_by_name) {
  EXPECT_TRUE(names(refusal(R"({"v":1,"type":"status","id":"a","id":"b"})"), "'id'"));
  EXPECT_TRUE(names(refusal(R"({"v":1,"type":"status","type":"shutdown"})"), "'type'"));
}

struct BadField {
  const char* field;
  const char* json;
};

TEST(Message, mistyped_and_out_of_range_fields_are_refused_with_name_value_and_limit) {
  const BadField cases[] = {
      {"pool", "7"},
      {"pool", "\"\""},
      {"pool", "null"},
      {"max_tokens", "\"5\""},
      {"max_tokens", "0"},
      {"max_tokens", "-1"},
      {"max_tokens", "1.0"},
      {"max_tokens", "1000001"},
      {"max_tokens", "18446744073709551615"},
      {"temperature", "-0.5"},
      {"temperature", "100.5"},
      {"temperature", "true"},
      {"top_p", "1.0001"},
      {"seed", "5"},
      {"seed", "\"-1\""},
      {"seed", "\"\""},
      {"seed", "\"01\""},
      {"seed", "\"18446744073709551616\""},
      {"seed", "\" 1\""},
      {"ignore_eos", "1"},
      {"ignore_eos", "null"},
      {"stop", "\"text\""},
      {"stop", "[7]"},
      {"stop", "[\"\"]"},
      {"stop", "{}"},
      {"version", "-1"},
      {"id", "\"\""},
  };
  for (const BadField& one : cases) {
    std::string text = generate().dump();
    const std::string key = cat("\"", one.field, "\":");
    const size_t at = text.find(key);
    const size_t end = at == text.npos ? 0 : text.find_first_of(",}", at);
    if (at != text.npos) text.erase(at, text[end] == ',' ? end + 1 - at : end - at);
    text.insert(1, cat(key, one.json, ","));
    const Error error = refusal(text);
    EXPECT_TRUE(names(error, cat("'", one.field))) << error.message;
    EXPECT_FALSE(error.value.empty()) << error.message;
    EXPECT_FALSE(error.limit.empty()) << error.message;
  }
}

TEST(Message, texts_and_lists_past_their_size_are_refused_with_the_limit) {
  Error error = refusal(Message("hello").set("client", std::string(65, 'c')).dump());
  EXPECT_TRUE(names(error, "1..64"));
  error = refusal(generate().set("stop", std::vector<std::string>(17, "x")).dump());
  EXPECT_EQ(error.value, "17");
  EXPECT_EQ(error.limit, "16");
  EXPECT_TRUE(Message::parse(generate().set("stop", std::vector<std::string>(16, "x")).dump()));
  EXPECT_TRUE(Message::parse(Message("hello").set("client", std::string(64, 'c')).dump()));
}

TEST(Message, paths_must_be_absolute_and_without_zero_bytes) {
  const auto append = [](std::string_view path) {
    return Message("append").set("pool", "p").set("path", path).dump();
  };
  EXPECT_TRUE(Message::parse(append("/tmp/file")));
  EXPECT_TRUE(names(refusal(append("tmp/file")), "tmp/file"));
  refusal(append(""));
  refusal(append(std::string_view("/tmp/a\0b", 8)));
  refusal(append("/" + std::string(4095, 'x')));
}

TEST(Message, a_message_past_one_mebibyte_is_refused_with_its_size) {
  const std::string fits = generate().set("prompt", std::string(900'000, 'x')).dump();
  EXPECT_TRUE(Message::parse(fits));
  EXPECT_TRUE(Message::parse(fits + std::string(kMessageBytesMax - fits.size(), ' ')));
  const Error error = refusal(fits + std::string(kMessageBytesMax - fits.size() + 1, ' '));
  EXPECT_EQ(error.value, cat(kMessageBytesMax + 1));
  EXPECT_EQ(error.limit, cat(kMessageBytesMax));
}

TEST(Message, nesting_is_refused_past_its_limit_however_deep) {
  for (const int depth : {kMessageDepthMax, 1'000, 500'000}) {
    const std::string text = R"({"v":1,"type":"status","id":)" + std::string(depth, '[');
    EXPECT_TRUE(names(refusal(text), cat(kMessageDepthMax, " levels"))) << depth;
  }
  // Within the limit it is the schema that refuses.
  const std::string shallow = R"({"v":1,"type":"status","id":[[[]]]})";
  EXPECT_TRUE(names(refusal(shallow), "'id'"));
}

TEST(Message, many_keys_are_refused_in_time_proportional_to_their_bytes) {
  std::string text = R"({"v":1,"type":"status")";
  for (int i = 0; text.size() < kMessageBytesMax - 20; ++i) text += cat(",\"", i, "\":0");
  refusal(text + "}");
}

TEST(Message, an_error_survives_the_wire_whatever_its_strings_hold) {
  const Error plain{ErrorCode::memory_limit, "too much", "100", "50"};
  auto got = Message::parse(error_message(plain).dump());
  ASSERT_TRUE(got) << got.error().message;
  const Error back = error_of(*got);
  EXPECT_EQ(back.code, plain.code);
  EXPECT_EQ(back.message, plain.message);
  EXPECT_EQ(back.value, plain.value);
  EXPECT_EQ(back.limit, plain.limit);

  const std::string wild(100'000, '\xff');
  got = Message::parse(error_message({ErrorCode::io, wild, wild, wild}).dump());
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_EQ(error_of(*got).code, ErrorCode::io);
}

TEST(Message, copies_are_independent) {
  Message first = generate();
  Message second = first;
  second.set("pool", "other");
  EXPECT_EQ(first.text("pool"), "main");
  first = second;
  EXPECT_EQ(first.text("pool"), "other");
}

TEST(MessageDeath, a_getter_of_the_wrong_type_is_a_broken_promise) {
  EXPECT_DEATH((void)generate().integer("pool"), "getter");
}

TEST(ErrorCode, names_and_codes_map_to_each_other) {
  for (int value = 2; value <= 21; ++value) {
    const auto code = static_cast<ErrorCode>(value);
    EXPECT_NE(code, ErrorCode::internal);
    EXPECT_EQ(error_from_name(error_name(code)), code) << value;
  }
  EXPECT_EQ(error_from_name("no such name"), ErrorCode::internal);
}

}  // namespace
}  // namespace polykv
