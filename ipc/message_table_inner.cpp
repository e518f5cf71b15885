// The table of messages, second part: agents, the writer, and files for machines.
#include "ipc/command_line.h"
#include "ipc/message_fields.h"

namespace polykv::table {

void add_agent_messages(std::vector<MessageSchema>& table) {
  table.insert(
      table.end(),
      {{"agent_hello",
        kAgentToRuntime,
        {word("agent"), pid(), optional(word("model")), number("attach_ms"), text("kernel", 256),
         count("version"), word("pool"), texts("fallbacks", 100, 1024),
         optional(integer("lanes", 1, kLanesMax)), optional(integer("threads", 1, kThreadsMax))}},
       {"prepare", kRuntimeToAgent, {word("pool"), count("version")}},
       {"prepared", kAgentToRuntime, {word("agent"), word("pool"), count("version")}},
       {"start",
        kRuntimeToAgent,
        joined(joined({word("pool"), optional(count("version")), optional(word("agent"))},
                      prompt_fields()),
               sampling_fields()),
        {one_prompt()}},
       {"encode",
        kRuntimeToAgent,
        {word("request"), word("codec", 32), optional(id("budget_left")),
         optional(text("holders", kSentenceMax))}},
       {"turn",
        kAgentToRuntime,
        {word("agent"), word("pool"), count("version"), count("tokens"), id("inode")}},
       {"stop", kRuntimeToAgent, {}},
       {"attach",
        kAgentToRuntime,
        {word("agent"), optional(word("model")), word("pool"), count("version"),
         optional(word("fingerprint"))}},
       {"granted",
        kRuntimeToAgent,
        {optional(word("model")), word("pool"), count("version"), word("fingerprint"),
         count("spans")}},
       {"scores", kAgentToClient, {count("rows"), count("vocab")}}});
}

void add_writer_messages(std::vector<MessageSchema>& table) {
  table.insert(
      table.end(),
      {{"writer_hello", kWriterToRuntime, {pid(), optional(word("model"))}},
       {"pack", kRuntimeToWriter, {path("path")}},
       {"image",
        kWriterToRuntime,
        {word("fingerprint"), optional(text("name", 4096)), optional(count("positions")),
         optional(text("sampling", 256)), optional(count("bytes")), integer("layers", 1, 65'535),
         integer("kv_heads", 1, 65'535), integer("head_dim", 1, 65'535),
         optional(integer("window", 0, UINT32_MAX)),
         optional(integer("window_period", 0, UINT32_MAX)),
         optional(choice("source", "packed|cache")), texts("notices", 100, 1024)}},
       {"have", kRuntimeToWriter, {word("fingerprint")}},
       {"drop_job", kRuntimeToWriter, {id("job")}},
       {"tokenize",
        "client → runtime → writer",
        {id("job"), choice("form", "document|question|raw"), optional(choice("role", kRoles)),
         optional(flag("first")), optional(word("model"))}},
       {"tokens", "writer → runtime → client", {id("job"), count("count")}},
       {"prefill",
        "client → runtime → writer",
        {id("job"), texts("codecs", 16, 32), word("pool"), optional(id("budget_left")),
         optional(text("holders", kSentenceMax)), optional(word("model")),
         optional(flag("per_layer"))}},
       {"segment",
        kWriterToRuntime,
        {id("job"), word("codec", 32), count("tokens"), optional(count("bytes")),
         optional(number("bits_per_element")), number("seconds"),
         optional(objects("layers", "layer_stats", kLayersTold))}}});
}

// For machines: `polykv run --json`, the rows of `polykv eval --json`, `polykv doctor --json`.
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
         optional(integers("token_ids", 100'000)), logprobs(100'000), optional(word("reason")),
         optional(text("text", kTextMax))}},
       {"report",
        "",
        {object("pool", "pool_report"), objects("agents", "agent_report", 1'000'000),
         count("prefill_tokens"), number("prefill_seconds"), number("prefill_tokens_per_s"),
         number("answer_seconds"), count("tokens_generated"), text("model", 4096),
         text("fingerprint", kNameMax), count("image_bytes"), count("writer_restarts"),
         count("processes"), count("lanes"), count("threads"),
         texts("fallbacks", 1000, kSentenceMax)}},
       {"eval_row",
        "",
        {word("codec", 32), number("bits_per_element"), signed_number("delta_ppl_percent"),
         number("delta_ppl_se"), number("kld_median"), number("kld_mean"), number("kld_p99"),
         number("top1_percent"), optional(count("widened_planes")),
         optional(objects("layers", "layer_stats", kLayersTold))}},
       {"layer_stats",
        "",
        {count("layer"), count("rows"), number("k_rms"), number("k_largest"),
         number("k_mean_share"), number("k_peak"), number("k_error"), number("v_rms"),
         number("v_largest"), number("v_mean_share"), number("v_peak"), number("v_error"),
         number("score_error"), count("worst_head"), number("worst_score_error"),
         count("widened_planes")}},
       {"doctor_check",
        "",
        {word("name"), choice("verdict", "ok|warning|problem"), text("found", kSentenceMax),
         text("advice", kSentenceMax), optional(word("code"))}},
       {"doctor",
        "polykv-agent → polykv",
        {flag("usable"), objects("checks", "doctor_check", 100)}}});
}

}  // namespace polykv::table
