// The agent's loop: leases, requests, answers.
#include "agents/agent.h"

#include <unistd.h>

#include <cstring>

#include "ipc/log.h"
#include "ipc/process.h"

namespace polykv {
namespace {

GenerateOptions generate_options(const Message& request) {
  GenerateOptions options;
  options.prompt = request.text("prompt");
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
  done.set("prompt_tokens", int64_t{result.prompt_tokens});
  done.set("tokens", static_cast<int64_t>(result.tokens.size()));
  done.set("token_ids", std::vector<int64_t>(result.tokens.begin(), result.tokens.end()));
  done.set("ttft_ms", result.ttft_ms).set("tokens_per_s", result.tokens_per_s);
  done.set("suffix_bytes", static_cast<int64_t>(result.suffix_bytes));
  done.set("peak_private_bytes", static_cast<int64_t>(result.peak_private_bytes));
  return done;
}

}  // namespace

Agent::Agent(const AgentOptions& options, ControlClient control)
    : options_(options), control_(std::move(control)) {}

Result<std::unique_ptr<Agent>> Agent::attach(const AgentOptions& options) {
  const std::string identity = cat("agent:", options.attach.agent, ":", getpid());
  auto control = ControlClient::connect(options.attach.runtime + "/ctl", identity);
  if (!control) return pass(control);
  std::unique_ptr<Agent> agent(new Agent(options, std::move(*control)));
  if (auto leased = agent->take_lease(options.attach.pool, options.attach.version); !leased) {
    return pass(leased);
  }
  if (auto said = agent->say_hello(); !said) return pass(said);
  return agent;
}

// Moves to a version of a pool: the new lease first, then the old one ends.
Status Agent::take_lease(const std::string& pool, uint64_t version) {
  AttachOptions wanted = options_.attach;
  wanted.pool = pool;
  wanted.version = version;
  auto grant = request_lease(wanted);
  if (!grant) return pass(grant);
  if (!model_) {
    auto model = load_agent_model(std::move(grant->image), options_.n_threads, options_.isa);
    if (!model) return pass(model);
    model_ = std::move(*model);
  }
  const ModelConfig& config = model_->image.config();
  auto layout = open_layout(std::move(grant->manifest), std::move(grant->segments),
                            model_->image.fingerprint(),
                            {config.n_layers, config.n_kv_heads, config.head_dim},
                            options_.verify ? Verify::everything : Verify::header);
  if (!layout) return pass(layout);
  layout_ = std::move(*layout);
  lease_ = std::move(grant->lease);
  pool_ = grant->pool;
  return {};
}

Status Agent::say_hello() {
  Message hello("agent_hello");
  std::vector<std::string> fallbacks;
  if (kernel_fallbacks() > 0) fallbacks.emplace_back("a matrix kernel failed its self-test");
  if (attend_fallbacks() > 0) fallbacks.emplace_back("an attention kernel failed its self-test");
  hello.set("agent", options_.attach.agent).set("pid", static_cast<int64_t>(getpid()));
  hello.set("pool", pool_).set("version", static_cast<int64_t>(layout_.version));
  hello.set("kernel", cat(model_->kernels.name, "/", model_->attend.name));
  hello.set("fallbacks", fallbacks);
  hello.set("attach_ms", static_cast<double>(monotonic_ns() - options_.started_ns) / 1e6);
  return control_.send(hello);
}

Status Agent::serve() {
  while (!stop_) {
    auto message = control_.receive(-1, lease_.fd());
    if (!message) return pass(message);
    auto go_on = *message ? serve_control(**message) : serve_lease();
    if (!go_on) return pass(go_on);
    if (!*go_on) return {};
  }
  return {};
}

Result<bool> Agent::serve_control(const Message& message) {
  if (message.type() == "stop") return false;
  if (message.type() != "start") return true;  // a cancel of what has ended already
  const std::string request = message.text("id");
  if (auto done = start_generation(message); !done) {
    Message failure = error_message(done.error());
    failure.set("id", request).set("agent", options_.attach.agent);
    if (auto sent = control_.send(failure); !sent) return pass(sent);
  }
  return true;
}

// The lease became readable: its end, or memory that comes with a request.
Result<bool> Agent::serve_lease() {
  auto packet = lease_.receive();
  if (!packet) return false;
  auto request = Message::parse(packet->text);
  if (!request) return pass(request);
  if (request->type() != "score") return true;
  if (auto done = score_tokens(*request, std::move(packet->fds)); !done) {
    Message failure = error_message(done.error());
    failure.set("id", request->text("id"));
    if (auto sent = lease_.send(failure.dump()); !sent) return pass(sent);
  }
  return true;
}

Status Agent::start_generation(const Message& request) {
  const std::string pool = request.text("pool", pool_);
  const auto version = static_cast<uint64_t>(request.integer("version"));
  if (pool != pool_ || version != layout_.version) {
    if (auto moved = take_lease(pool, version); !moved) return moved;
  }
  const std::string id = request.text("id");
  const auto on_text = [&](const std::string& text) {
    if (!text.empty()) {
      Message token("token");
      token.set("id", id).set("agent", options_.attach.agent).set("text", text);
      if (!control_.send(token)) return false;
    }
    return !cancelled(id);
  };
  auto result = generate(*model_, layout_, generate_options(request), on_text);
  if (!result) return pass(result);
  Message done = done_message(id, *result);
  done.set("agent", options_.attach.agent).set("pid", static_cast<int64_t>(getpid()));
  done.set("pool", pool_).set("version", static_cast<int64_t>(layout_.version));
  if (auto use = memory_use()) {
    done.set("private_bytes", static_cast<int64_t>(use->private_bytes));
  }
  return control_.send(done);
}

// Looks, without waiting, for a cancel of this request or for the order to stop.
bool Agent::cancelled(const std::string& request) {
  while (true) {
    auto message = control_.receive(0);
    if (!message) return true;
    if (!*message) return false;
    if ((*message)->type() == "stop") stop_ = true;
    if (stop_) return true;
    if ((*message)->type() == "cancel" && (*message)->text("request") == request) return true;
  }
}

Status Agent::score_tokens(const Message& request, std::vector<UniqueFd> fds) {
  if (fds.empty()) return fail(ErrorCode::bad_message, "'score' came without tokens");
  auto memory = SharedView::map(std::move(fds[0]));
  if (!memory) return pass(memory);
  std::vector<uint32_t> tokens(memory->data().size() / sizeof(uint32_t));
  std::memcpy(tokens.data(), memory->data().data(), tokens.size() * sizeof(uint32_t));
  for (uint32_t token : tokens) {
    if (token >= model_->image.config().n_vocab) {
      return fail(ErrorCode::bad_message, cat("token ", token, " is not in the vocabulary"));
    }
  }
  const auto progress = [&](uint32_t done) {
    Message message("progress");
    message.set("id", request.text("id")).set("phase", "scoring").set("rate", 0.0);
    message.set("done", int64_t{done}).set("all", static_cast<int64_t>(tokens.size()));
    (void)lease_.send(message.dump());  // a lost connection shows at the next receive
  };
  auto scores = score(*model_, layout_, tokens, progress);
  if (!scores) return pass(scores);
  Message answer("scores");
  answer.set("id", request.text("id")).set("rows", static_cast<int64_t>(tokens.size()));
  answer.set("vocab", int64_t{model_->image.config().n_vocab});
  return lease_.send(answer.dump(), {scores->get()});
}

}  // namespace polykv
