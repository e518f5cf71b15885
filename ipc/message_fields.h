// The words that the table of messages is written in (message_table_*.cpp only).
#pragma once

#include "ipc/message_schema.h"

namespace polykv::table {

using Fields = std::vector<Field>;

inline constexpr int64_t kCountMax = int64_t{1} << 53;  // every language holds these exactly
inline constexpr int64_t kTextMax = 900'000;            // leaves room for the rest of a message
inline constexpr int64_t kNameMax = 64;
inline constexpr int64_t kSentenceMax = 8192;
inline constexpr size_t kLayersTold = 128;       // of a model, in one packet
inline constexpr int64_t kPrecisionMax = 256;    // how one segment was prefilled
inline constexpr int64_t kPrecisionsMax = 1024;  // and all of a pool
inline constexpr std::string_view kRoles = "system|user|assistant";

inline constexpr std::string_view kClientToRuntime = "client → runtime";
inline constexpr std::string_view kRuntimeToClient = "runtime → client";
inline constexpr std::string_view kAgentToRuntime = "agent → runtime";
inline constexpr std::string_view kAgentToClient = "agent → runtime → client";
inline constexpr std::string_view kRuntimeToAgent = "runtime → agent";
inline constexpr std::string_view kWriterToRuntime = "writer → runtime";
inline constexpr std::string_view kRuntimeToWriter = "runtime → writer";
inline constexpr std::string_view kAny = "any";

inline Field text(std::string_view name, int64_t high) { return {name, FieldKind::text, 0, high}; }
inline Field word(std::string_view name, int64_t high = kNameMax) {
  return {name, FieldKind::text, 1, high};
}
inline Field choice(std::string_view name, std::string_view words) {
  return {name, FieldKind::choice, 0, 0, words};
}
inline Field path(std::string_view name) { return {name, FieldKind::path, 1, 4095}; }
inline Field integer(std::string_view name, int64_t low, int64_t high) {
  return {name, FieldKind::integer, low, high};
}
inline Field count(std::string_view name) { return integer(name, 0, kCountMax); }
inline Field pid(std::string_view name = "pid") { return integer(name, 0, INT32_MAX); }
inline Field number(std::string_view name, int64_t low = 0, int64_t high = kCountMax) {
  return {name, FieldKind::number, low, high};
}
inline Field flag(std::string_view name) { return {name, FieldKind::flag}; }
inline Field id(std::string_view name) { return {name, FieldKind::id}; }
inline Field texts(std::string_view name, size_t count, int64_t high) {
  return {name, FieldKind::texts, 1, high, {}, count};
}
inline Field integers(std::string_view name, size_t count) {
  return {name, FieldKind::integers, 0, INT32_MAX, {}, count};
}
inline Field objects(std::string_view name, std::string_view schema, size_t count) {
  return {name, FieldKind::objects, 0, 0, schema, count};
}
inline Field object(std::string_view name, std::string_view schema) {
  return {name, FieldKind::object, 0, 0, schema};
}
inline Field optional(Field field) {
  field.required = false;
  return field;
}

inline Fields joined(Fields fields, const Fields& more) {
  fields.insert(fields.end(), more.begin(), more.end());
  return fields;
}

// What a generation may be asked with, by a client and then of an agent.
inline Fields sampling_fields() {
  return {integer("max_tokens", 1, 1'000'000),
          optional(integer("min_tokens", 0, 1'000'000)),
          optional(number("temperature", 0, 100)),
          optional(integer("top_k", 0, 1'000'000)),
          optional(number("top_p", 0, 1)),
          optional(number("min_p", 0, 1)),
          optional(number("repetition_penalty", 0, 100)),
          optional(id("seed")),
          optional(flag("logprobs")),
          optional(integer("top_logprobs", 0, 20)),
          optional(texts("stop", 16, 256)),
          optional(flag("ignore_eos"))};
}
inline Fields prompt_fields() {
  return {optional(text("prompt", kTextMax)), optional(objects("messages", "chat_message", 1000))};
}
// What is said of a token: how likely it was.
inline Fields token_fields() {
  return {integer("token", 0, INT32_MAX), text("text", kTextMax),
          optional(integers("bytes", 65'536)), number("logprob", -kCountMax, 0)};
}
inline Field logprobs(size_t most) { return optional(objects("logprobs", "token_logprob", most)); }
inline Choice one_prompt() { return {{"prompt", "messages"}, true}; }

// The parts of the table.
void add_client_messages(std::vector<MessageSchema>& table);
void add_runtime_messages(std::vector<MessageSchema>& table);
void add_client_objects(std::vector<MessageSchema>& table);
void add_agent_messages(std::vector<MessageSchema>& table);
void add_writer_messages(std::vector<MessageSchema>& table);
void add_reports(std::vector<MessageSchema>& table);

}  // namespace polykv::table
