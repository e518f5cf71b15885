// The table of messages, first part: what clients send and see.
#include "ipc/message_fields.h"

namespace polykv::table {
namespace {

// Which model a request is about; the runtime's first if it is not said.
Field model() { return optional(word("model")); }
Field ttl() { return optional(integer("ttl_seconds", 1, 1'000'000'000)); }
Field deadline() { return optional(number("deadline_seconds", 0, 1'000'000)); }

// The text of a pool: in the message, in a file, or (over fd) as memory.
Fields text_fields() {
  return {optional(text("text", kTextMax)), optional(path("path")),
          optional(choice("role", kRoles)), optional(integer("reserve", 0, INT32_MAX - 1)),
          deadline()};
}
Choice one_text() { return {{"text", "path"}}; }

Fields pool_fields() { return {word("pool"), model()}; }

// On which version something runs: that one, or one that is at least so new, or the current one.
Fields version_fields() { return {optional(count("version")), optional(count("at_least"))}; }
Choice one_version() { return {{"version", "at_least"}}; }

Fields done_fields() {
  return {word("agent"),
          pid(),
          optional(word("model")),
          word("pool"),
          count("version"),
          optional(count("member")),
          choice("reason", "eos|stop|length|cancelled"),
          text("text", kTextMax),
          count("prompt_tokens"),
          optional(count("reused_tokens")),
          count("tokens"),
          optional(number("attach_ms")),
          optional(number("ttft_ms")),
          optional(number("tokens_per_s")),
          optional(count("private_bytes")),
          optional(count("peak_private_bytes")),
          optional(count("suffix_bytes")),
          optional(integers("token_ids", 100'000)),
          logprobs(100'000)};
}

Fields snapshot_fields() {
  return {id("seq"),
          id("agent_seq"),
          id("token_seq"),
          pid(),
          optional(count("budget_bytes")),
          count("held_bytes"),
          count("evicted_pools"),
          texts("fallbacks", 1000, kSentenceMax),
          objects("models", "model_status", 100),
          objects("pools", "pool_status", 1000),
          objects("agents", "agent_status", 10'000)};
}

}  // namespace

void add_client_messages(std::vector<MessageSchema>& table) {
  table.insert(
      table.end(),
      {{"hello", kClientToRuntime, {word("client")}},
       {"pool_create",
        kClientToRuntime,
        joined(joined(pool_fields(), {word("codec", 32), ttl()}), text_fields()),
        {one_text()}},
       {"append", kClientToRuntime, joined(pool_fields(), text_fields()), {one_text()}},
       {"pool_fork", kClientToRuntime,
        joined(pool_fields(), {optional(count("version")), word("to"), ttl()})},
       {"pool_drop", kClientToRuntime, pool_fields()},
       {"pool_pin", kClientToRuntime, joined(pool_fields(), {optional(count("version")), ttl()})},
       {"pool_unpin", kClientToRuntime, joined(pool_fields(), {count("version")})},
       {"agents_start", kClientToRuntime,
        joined(pool_fields(),
               {optional(count("version")), integer("count", 0, 1'000'000), deadline()})},
       {"agents_stop", kClientToRuntime, {optional(word("agent"))}},
       {"generate",
        kClientToRuntime,
        joined(joined(pool_fields(), version_fields()),
               joined(joined({optional(word("agent")), deadline()}, prompt_fields()),
                      sampling_fields())),
        {one_version(), one_prompt()}},
       {"group_generate",
        kClientToRuntime,
        joined(joined(pool_fields(), version_fields()),
               joined({deadline(), objects("members", "group_member", 256)}, sampling_fields())),
        {one_version()}},
       {"commit", kClientToRuntime, {word("request"), deadline()}},
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
       {"pool_ready", kRuntimeToClient,
        joined(pool_fields(),
               {count("version"), count("tokens"), count("bytes"), number("bits_per_element"),
                count("elements"), count("segments"), count("prefill_tokens"),
                number("prefill_seconds"), optional(text("precision", kPrecisionsMax)),
                optional(count("widened_planes")),
                optional(objects("layers", "layer_stats", kLayersTold))})},
       {"pool_dropped", kRuntimeToClient,
        joined(pool_fields(),
               {count("version"), count("leases"), choice("reason", "asked|expired|evicted")})},
       {"committed", kRuntimeToClient,
        joined(pool_fields(),
               {count("version"), word("agent"), pid(), count("turn_tokens"), count("tokens"),
                count("bytes"), count("segments"), count("prefill_tokens"), id("inode")})},
       {"group_started", kRuntimeToClient,
        joined(pool_fields(), {count("version"), texts("agents", 256, kNameMax)})},
       {"group_done", kRuntimeToClient,
        joined(pool_fields(), {count("version"), count("finished"), count("failed")})},
       {"agent_born", kRuntimeToClient,
        joined(pool_fields(), {word("agent"), pid(), count("version"), count("restarts")})},
       {"agent_ended", kRuntimeToClient,
        joined(pool_fields(), {word("agent"), pid(), text("story", kSentenceMax)})},
       {"progress",
        kAny,
        {optional(id("job")), text("phase", 256), count("done"), count("all"), number("rate")}},
       {"token",
        kAgentToClient,
        {word("agent"), optional(word("pool")), optional(count("member")), text("text", kTextMax),
         logprobs(1000)}},
       {"done", kAgentToClient, done_fields()},
       {"snapshot", kRuntimeToClient, snapshot_fields()},
       {"error",
        kAny,
        {word("code"), text("message", kSentenceMax), text("value", kSentenceMax),
         text("limit", kSentenceMax), optional(word("agent")), optional(pid()),
         optional(count("member")), optional(id("job"))}}});
}

void add_client_objects(std::vector<MessageSchema>& table) {
  table.insert(
      table.end(),
      {{"chat_message", "", {choice("role", kRoles), text("content", kTextMax)}},
       {"token_choice", "", token_fields()},
       {"token_logprob", "",
        joined(token_fields(), {optional(objects("top", "token_choice", 20))})},
       {"group_member",
        "",
        joined({optional(word("agent")), optional(id("seed"))}, prompt_fields()),
        {one_prompt()}},
       {"model_status",
        "",
        {word("model"), text("name", 4096), text("fingerprint", kNameMax), count("image_bytes"),
         count("positions"), optional(text("sampling", 256)), pid("writer_pid"),
         word("writer_state"), count("writer_restarts"),
         optional(choice("image_source", "packed|cache")),
         optional(text("last_error", kSentenceMax))}},
       {"version_status", "", {count("version"), count("tokens"), count("leases"), flag("pinned")}},
       {"pool_status",
        "",
        {word("pool"), word("model"), count("version"), word("codec", 32), count("tokens"),
         count("bytes"), number("bits_per_element"), count("segments"), count("leases"),
         number("idle_seconds"), optional(count("ttl_seconds")), optional(count("widened_planes")),
         optional(text("precision", kPrecisionsMax)),
         objects("versions", "version_status", 10'000)}},
       {"agent_status",
        "",
        {word("agent"), pid(), word("state"), text("model", kNameMax), text("pool", kNameMax),
         count("version"), text("kernel", 256), number("attach_ms"), count("private_bytes"),
         count("tokens"), number("tokens_per_s"), count("restarts"), count("lanes"),
         count("running"), count("threads"), text("last_error", kSentenceMax)}}});
}

}  // namespace polykv::table
