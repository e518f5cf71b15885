// Requests of an evaluation.
#include "launch/eval_steps.h"

#include <cstring>

namespace polykv {
namespace {

Result<UniqueFd> share_tokens(std::span<const uint32_t> tokens) {
  return share_bytes("polykv-tokens", std::as_bytes(tokens), memory_room());
}

}  // namespace

Result<std::vector<uint32_t>> eval_tokens(Client& client, const std::string& text) {
  auto memory = share_bytes("polykv-text", std::as_bytes(std::span(text)), memory_room());
  if (!memory) return pass(memory);
  Message request("tokenize");
  request.set_id("job", 0).set("form", "raw");
  ProgressLine line;  // of the model, which has to be there first
  auto answer = client.ask_with_memory(request, memory->get(), 1,
                                       [&](const Message& part) { line.show(part); });
  if (!answer) return pass(answer);
  if (answer->front().fds.size() != 1) return fail(ErrorCode::bad_message, "no tokens came back");
  auto view = SharedView::map(std::move(answer->front().fds[0]));
  if (!view) return pass(view);
  std::vector<uint32_t> tokens(view->data().size() / sizeof(uint32_t));
  std::memcpy(tokens.data(), view->data().data(), tokens.size() * sizeof(uint32_t));
  return tokens;
}

Result<std::vector<EvalPool>> eval_prefill(Client& client, const EvalPrefill& prefill,
                                           ProgressLine& line) {
  auto memory = share_tokens(prefill.tokens);
  if (!memory) return pass(memory);
  Message request("prefill");
  request.set_id("job", 0).set("pool", prefill.name).set("codecs", prefill.codecs);
  if (prefill.per_layer) request.set("per_layer", true);
  auto answers = client.ask_with_memory(request, memory->get(), prefill.codecs.size(),
                                        [&](const Message& part) { line.show(part); });
  if (!answers) return pass(answers);
  std::vector<EvalPool> pools;
  for (const MemoryAnswer& answer : *answers) {
    const Message& ready = answer.message;
    pools.push_back(
        {.bits_per_element = ready.number("bits_per_element"),
         .widened_planes = static_cast<uint64_t>(ready.integer("widened_planes")),
         .layers = prefill.per_layer ? ready.objects("layers") : std::vector<Message>()});
  }
  return pools;
}

Result<EvalScores> eval_score(Client& client, const std::string& pool,
                              std::span<const uint32_t> tokens, ProgressLine& line) {
  Message start("agents_start");
  start.set("pool", pool).set("count", 1);
  auto started = client.ask(start);
  if (!started) return pass(started);
  const std::string agent = started->texts("agents").front();
  auto memory = share_tokens(tokens);
  if (!memory) return pass(memory);
  Message request("score");
  request.set("agent", agent);
  auto answer = client.ask_with_memory(request, memory->get(), 1, [&](const Message& part) {
    line.show(cat(pool, ": scored ", part.integer("done"), " of ", part.integer("all"), " tokens"));
  });
  if (!answer) return pass(answer);
  MemoryAnswer& scores = answer->front();
  const auto n_vocab = static_cast<uint32_t>(scores.message.integer("vocab"));
  if (scores.fds.size() != 1) return fail(ErrorCode::bad_message, "no scores came back");
  auto view = SharedView::map(std::move(scores.fds[0]), tokens.size() * n_vocab * sizeof(float));
  if (!view) return pass(view);
  Message stop("agents_stop");
  stop.set("agent", agent);
  if (auto stopped = client.ask(stop); !stopped) return pass(stopped);
  return EvalScores{std::move(*view), n_vocab};
}

}  // namespace polykv
