// Fields into options, results into fields.
#include "agents/request.h"

#include "ipc/utf8.h"
#include "model/token_tables.h"

namespace polykv {
namespace {

// `messages`, or `prompt` as the user's only one.
std::vector<ChatTurn> conversation_of(const Message& request) {
  if (!request.has("messages")) return {{"user", request.text("prompt")}};
  std::vector<ChatTurn> turns;
  for (const Message& message : request.objects("messages")) {
    turns.push_back({message.text("role"), message.text("content")});
  }
  return turns;
}

SamplingOptions sampling_options(const Message& request, SamplingOptions options) {
  const auto number = [&](const char* field, float& out) {
    if (request.has(field)) out = static_cast<float>(request.number(field));
  };
  number("temperature", options.temperature);
  number("top_p", options.top_p);
  number("min_p", options.min_p);
  number("repetition_penalty", options.repetition_penalty);
  if (request.has("top_k")) options.top_k = static_cast<uint32_t>(request.integer("top_k"));
  if (request.has("seed")) options.seed = request.id("seed");
  return options;
}

// A token need not be whole characters: then its bytes are there, too.
Message token_message(const char* type, const TokenizerTables& tables, const TokenLogprob& said) {
  const std::string_view text = token_text(tables, said.token);
  Message token(type);
  token.set("token", said.token).set("text", text);
  if (invalid_utf8(text)) {
    std::vector<int64_t> bytes;
    for (const char byte : text) bytes.push_back(static_cast<unsigned char>(byte));
    token.set("bytes", bytes);
  }
  return token.set("logprob", static_cast<double>(said.logprob));
}

}  // namespace

Message logprob_message(const TokenizerTables& tables, std::span<const TokenLogprob> logprobs) {
  Message token = token_message("token_logprob", tables, logprobs.front());
  std::vector<Message> top;
  for (const TokenLogprob& one : logprobs.subspan(1)) {
    top.push_back(token_message("token_choice", tables, one));
  }
  return top.empty() ? token : token.set("top", top);
}

GenerateOptions generate_options(const Message& request, const SamplingOptions& defaults) {
  GenerateOptions options;
  options.messages = conversation_of(request);
  options.max_tokens = static_cast<uint32_t>(request.integer("max_tokens", 256));
  options.min_tokens = static_cast<uint32_t>(request.integer("min_tokens", 0));
  if (request.flag("ignore_eos")) options.min_tokens = options.max_tokens;
  options.sampling = sampling_options(request, defaults);
  const auto top = static_cast<uint32_t>(request.integer("top_logprobs", 0));
  if (request.flag("logprobs") || top > 0) options.top_logprobs = top;
  options.stop = request.texts("stop");
  return options;
}

Message done_message(const std::string& request, const GenerateResult& result) {
  Message done("done");
  done.set("id", request).set("reason", result.reason).set("text", result.text);
  done.set("prompt_tokens", result.prompt_tokens).set("reused_tokens", result.reused_tokens);
  done.set("tokens", static_cast<int64_t>(result.tokens.size()));
  done.set("token_ids", std::vector<int64_t>(result.tokens.begin(), result.tokens.end()));
  done.set("ttft_ms", result.ttft_ms).set("tokens_per_s", result.tokens_per_s);
  done.set("suffix_bytes", static_cast<int64_t>(result.suffix_bytes));
  if (result.private_bytes) {
    done.set("private_bytes", static_cast<int64_t>(*result.private_bytes));
  }
  done.set("peak_private_bytes", static_cast<int64_t>(result.peak_private_bytes));
  return done;
}

Result<TurnOptions> turn_options(const Message& request) {
  auto codec = parse_codec(request.text("codec"));
  if (!codec) return pass(codec);
  std::optional<uint64_t> budget;
  if (request.has("budget_left")) budget = request.id("budget_left");
  return TurnOptions{*codec, memory_room(budget), request.text("holders")};
}

}  // namespace polykv
