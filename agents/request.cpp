// Fields into options, results into fields.
#include "agents/request.h"

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

}  // namespace

GenerateOptions generate_options(const Message& request) {
  GenerateOptions options;
  options.messages = conversation_of(request);
  options.max_tokens = static_cast<uint32_t>(request.integer("max_tokens", 256));
  options.min_tokens = static_cast<uint32_t>(request.integer("min_tokens", 0));
  if (request.flag("ignore_eos")) options.min_tokens = options.max_tokens;
  options.sampling.temperature = static_cast<float>(request.number("temperature", 0));
  options.sampling.top_k = static_cast<uint32_t>(request.integer("top_k", 0));
  options.sampling.top_p = static_cast<float>(request.number("top_p", 1));
  options.sampling.min_p = static_cast<float>(request.number("min_p", 0));
  options.sampling.repetition_penalty = static_cast<float>(request.number("repetition_penalty", 1));
  if (request.has("seed")) options.sampling.seed = request.id("seed");
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
