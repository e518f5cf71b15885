// The table of control messages.
#include "ipc/message_schema.h"

#include <charconv>

#include "ipc/message.h"
#include "ipc/result.h"

namespace polykv {
namespace {

using Fields = std::vector<Field>;

constexpr int64_t kCountMax = int64_t{1} << 53;  // every language holds these exactly
constexpr int64_t kTextMax = 900'000;            // leaves room for the rest of a message
constexpr int64_t kNameMax = 64;
constexpr int64_t kSentenceMax = 8192;
constexpr std::string_view kRoles = "system|user|assistant";

Field text(std::string_view name, int64_t high) { return {name, FieldKind::text, 0, high}; }
Field word(std::string_view name, int64_t high = kNameMax) {
  return {name, FieldKind::text, 1, high};
}
Field choice(std::string_view name, std::string_view words) {
  return {name, FieldKind::choice, 0, 0, words};
}
Field path(std::string_view name) { return {name, FieldKind::path, 1, 4095}; }
Field integer(std::string_view name, int64_t low, int64_t high) {
  return {name, FieldKind::integer, low, high};
}
Field count(std::string_view name) { return integer(name, 0, kCountMax); }
Field pid(std::string_view name = "pid") { return integer(name, 0, INT32_MAX); }
Field number(std::string_view name, int64_t low = 0, int64_t high = kCountMax) {
  return {name, FieldKind::number, low, high};
}
Field flag(std::string_view name) { return {name, FieldKind::flag}; }
Field id(std::string_view name) { return {name, FieldKind::id}; }
Field texts(std::string_view name, size_t count, int64_t high) {
  return {name, FieldKind::texts, 1, high, {}, count};
}
Field integers(std::string_view name, size_t count) {
  return {name, FieldKind::integers, 0, INT32_MAX, {}, count};
}
Field objects(std::string_view name, std::string_view schema, size_t count) {
  return {name, FieldKind::objects, 0, 0, schema, count};
}
Field object(std::string_view name, std::string_view schema) {
  return {name, FieldKind::object, 0, 0, schema};
}
Field optional(Field field) {
  field.required = false;
  return field;
}

// What a generation is asked with: by a client, and handed on to the agent.
Fields generate_fields() {
  return {word("pool"),
          optional(count("version")),
          optional(word("agent")),
          text("prompt", kTextMax),
          integer("max_tokens", 1, 1'000'000),
          optional(integer("min_tokens", 0, 1'000'000)),
          optional(number("temperature", 0, 100)),
          optional(integer("top_k", 0, 1'000'000)),
          optional(number("top_p", 0, 1)),
          optional(number("min_p", 0, 1)),
          optional(number("repetition_penalty", 0, 100)),
          optional(id("seed")),
          optional(texts("stop", 16, 256)),
          optional(flag("ignore_eos"))};
}

Fields done_fields() {
  return {word("agent"),
          pid(),
          word("pool"),
          count("version"),
          choice("reason", "eos|stop|length|cancelled"),
          text("text", kTextMax),
          count("prompt_tokens"),
          count("tokens"),
          optional(number("attach_ms")),
          optional(number("ttft_ms")),
          optional(number("tokens_per_s")),
          optional(count("private_bytes")),
          optional(count("peak_private_bytes")),
          optional(count("suffix_bytes")),
          optional(integers("token_ids", 100'000))};
}

Fields snapshot_fields() {
  return {id("seq"),
          pid(),
          pid("writer_pid"),
          word("writer_state"),
          count("writer_restarts"),
          optional(count("budget_bytes")),
          count("held_bytes"),
          text("model", 4096),
          text("fingerprint", kNameMax),
          count("image_bytes"),
          count("positions"),
          texts("fallbacks", 1000, kSentenceMax),
          objects("pools", "pool_status", 1000),
          objects("agents", "agent_status", 10'000)};
}

constexpr std::string_view kClientToRuntime = "client → runtime";
constexpr std::string_view kRuntimeToClient = "runtime → client";
constexpr std::string_view kAgentToRuntime = "agent → runtime";
constexpr std::string_view kRuntimeToAgent = "runtime → agent";
constexpr std::string_view kWriterToRuntime = "writer → runtime";
constexpr std::string_view kRuntimeToWriter = "runtime → writer";
constexpr std::string_view kAny = "any";

void add_client_messages(std::vector<MessageSchema>& table) {
  table.insert(
      table.end(),
      {{"hello", kClientToRuntime, {word("client")}},
       {"pool_create",
        kClientToRuntime,
        {word("pool"), word("codec", 32), optional(text("text", kTextMax)), optional(path("path")),
         optional(choice("role", kRoles)), optional(integer("reserve", 0, INT32_MAX - 1))}},
       {"append",
        kClientToRuntime,
        {word("pool"), optional(text("text", kTextMax)), optional(path("path")),
         optional(choice("role", kRoles)), optional(integer("reserve", 0, INT32_MAX - 1))}},
       {"pool_fork", kClientToRuntime, {word("pool"), optional(count("version")), word("to")}},
       {"pool_drop", kClientToRuntime, {word("pool")}},
       {"pool_pin", kClientToRuntime, {word("pool"), optional(count("version"))}},
       {"pool_unpin", kClientToRuntime, {word("pool"), count("version")}},
       {"agents_start",
        kClientToRuntime,
        {word("pool"), optional(count("version")), integer("count", 0, 1'000'000)}},
       {"agents_stop", kClientToRuntime, {optional(word("agent"))}},
       {"generate", kClientToRuntime, generate_fields()},
       {"score", "client → runtime → agent", {word("agent")}},
       {"cancel", "client → runtime → agent", {word("request")}},
       {"status", kClientToRuntime, {}},
       {"shutdown", kClientToRuntime, {}}});
}

void add_runtime_messages(std::vector<MessageSchema>& table) {
  table.insert(
      table.end(),
      {{"ok",
        kRuntimeToClient,
        {optional(texts("agents", 10'000, kNameMax)), optional(count("version"))}},
       {"welcome", kRuntimeToClient, {pid("runtime"), text("version", kNameMax)}},
       {"pool_ready",
        kRuntimeToClient,
        {word("pool"), count("version"), count("tokens"), count("bytes"),
         number("bits_per_element"), count("elements"), count("segments"), count("prefill_tokens"),
         number("prefill_seconds")}},
       {"pool_dropped", kRuntimeToClient, {word("pool"), count("version"), count("leases")}},
       {"progress",
        kAny,
        {optional(id("job")), text("phase", 256), count("done"), count("all"), number("rate")}},
       {"token", "agent → runtime → client", {word("agent"), text("text", kTextMax)}},
       {"done", "agent → runtime → client", done_fields()},
       {"snapshot", kRuntimeToClient, snapshot_fields()},
       {"error",
        kAny,
        {word("code"), text("message", kSentenceMax), text("value", kSentenceMax),
         text("limit", kSentenceMax), optional(word("agent")), optional(pid()),
         optional(id("job"))}}});
}

void add_agent_messages(std::vector<MessageSchema>& table) {
  table.insert(table.end(),
               {{"agent_hello",
                 kAgentToRuntime,
                 {word("agent"), pid(), number("attach_ms"), text("kernel", 256), count("version"),
                  word("pool"), texts("fallbacks", 100, 1024)}},
                {"start", kRuntimeToAgent, generate_fields()},
                {"stop", kRuntimeToAgent, {}},
                {"attach",
                 kAgentToRuntime,
                 {word("agent"), word("pool"), count("version"), optional(word("fingerprint"))}},
                {"granted",
                 kRuntimeToAgent,
                 {word("pool"), count("version"), word("fingerprint"), count("spans")}},
                {"scores", "agent → runtime → client", {count("rows"), count("vocab")}}});
}

void add_writer_messages(std::vector<MessageSchema>& table) {
  table.insert(table.end(),
               {{"writer_hello", kWriterToRuntime, {pid()}},
                {"pack", kRuntimeToWriter, {path("path")}},
                {"image",
                 kWriterToRuntime,
                 {word("fingerprint"), optional(text("name", 4096)), optional(count("positions")),
                  optional(count("bytes")), texts("notices", 100, 1024)}},
                {"have", kRuntimeToWriter, {word("fingerprint")}},
                {"tokenize",
                 "client → runtime → writer",
                 {id("job"), choice("form", "document|question|raw"),
                  optional(choice("role", kRoles)), optional(flag("first"))}},
                {"tokens", "writer → runtime → client", {id("job"), count("count")}},
                {"prefill",
                 "client → runtime → writer",
                 {id("job"), texts("codecs", 16, 32), word("pool"), optional(id("budget_left")),
                  optional(text("holders", kSentenceMax))}},
                {"segment",
                 kWriterToRuntime,
                 {id("job"), word("codec", 32), count("tokens"), optional(count("bytes")),
                  optional(number("bits_per_element")), number("seconds")}}});
}

void add_objects(std::vector<MessageSchema>& table) {
  table.insert(
      table.end(),
      {{"pool_status",
        "",
        {word("pool"), count("version"), word("codec", 32), count("tokens"), count("bytes"),
         number("bits_per_element"), count("segments"), count("versions"), count("pinned")}},
       {"agent_status",
        "",
        {word("agent"), pid(), word("state"), text("pool", kNameMax), count("version"),
         number("attach_ms"), count("private_bytes"), count("tokens"), count("restarts"),
         text("last_error", kSentenceMax)}}});
}

// Files for machines: `polykv run --json` and the rows of `polykv eval --json`.
void add_reports(std::vector<MessageSchema>& table) {
  const auto signed_number = [](std::string_view name) { return number(name, -kCountMax); };
  table.insert(
      table.end(),
      {{"pool_report",
        "",
        {word("codec", 32), number("bits_per_element"), count("tokens"), count("bytes"),
         count("segments"), count("version"), count("shared_f16_bytes"),
         count("private_f16_bytes")}},
       {"agent_report",
        "",
        {text("agent", kNameMax), pid(), text("question", kTextMax),
         optional(text("error", kSentenceMax)), optional(word("code")),
         optional(number("attach_ms")), optional(number("ttft_ms")),
         optional(number("tokens_per_s")), optional(count("private_bytes")),
         optional(count("peak_private_bytes")), optional(count("suffix_bytes")),
         optional(count("prompt_tokens")), optional(count("tokens")), optional(count("version")),
         optional(integers("token_ids", 100'000)), optional(word("reason")),
         optional(text("text", kTextMax))}},
       {"report",
        "",
        {object("pool", "pool_report"), objects("agents", "agent_report", 1'000'000),
         count("prefill_tokens"), number("prefill_seconds"), number("prefill_tokens_per_s"),
         number("answer_seconds"), count("tokens_generated"), text("model", 4096),
         text("fingerprint", kNameMax), count("image_bytes"), count("writer_restarts"),
         texts("fallbacks", 1000, kSentenceMax)}},
       {"eval_row",
        "",
        {word("codec", 32), number("bits_per_element"), signed_number("delta_ppl_percent"),
         number("delta_ppl_se"), number("kld_median"), number("kld_mean"), number("kld_p99"),
         number("top1_percent")}}});
}

std::vector<MessageSchema> make_table() {
  std::vector<MessageSchema> table;
  add_client_messages(table);
  add_runtime_messages(table);
  add_agent_messages(table);
  add_writer_messages(table);
  add_objects(table);
  add_reports(table);
  return table;
}

}  // namespace

const Field* MessageSchema::find(std::string_view field) const {
  for (const Field& one : fields) {
    if (one.name == field) return &one;
  }
  return nullptr;
}

const std::vector<Field>& common_fields() {
  static const Fields fields{integer("v", kProtocolVersion, kProtocolVersion), word("type"),
                             optional(word("id")), optional(id("seq"))};
  return fields;
}

const std::vector<MessageSchema>& message_schemas() {
  static const std::vector<MessageSchema> table = make_table();
  return table;
}

const MessageSchema* find_schema(std::string_view name) {
  for (const MessageSchema& schema : message_schemas()) {
    if (schema.name == name) return &schema;
  }
  return nullptr;
}

const Field* find_common_field(std::string_view name) {
  for (const Field& field : common_fields()) {
    if (field.name == name) return &field;
  }
  return nullptr;
}

bool in_words(std::string_view word, std::string_view words) {
  return word.find('|') == word.npos && !word.empty() &&
         cat("|", words, "|").find(cat("|", word, "|")) != std::string::npos;
}

bool parse_id(std::string_view text, uint64_t& id) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  return error == std::errc{} && end == text.data() + text.size() &&
         (text.size() == 1 || text.front() != '0');
}

}  // namespace polykv
