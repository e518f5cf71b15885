// The agent's loop: leases, requests, answers.
#include "agents/agent.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "ipc/log.h"
#include "ipc/process.h"

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
  turn_.reset();
  suffix_.emplace(config);  // what was computed belongs to the version before
  layout_ = std::move(*layout);
  lease_ = std::move(grant->lease);
  pool_ = grant->pool;
  return {};
}

Status Agent::say_hello() {
  Message hello("agent_hello");
  hello.set("agent", options_.attach.agent).set("pid", static_cast<int64_t>(getpid()));
  if (!options_.attach.model.empty()) hello.set("model", options_.attach.model);
  hello.set("pool", pool_).set("version", static_cast<int64_t>(layout_.version));
  hello.set("kernel", cat(model_->kernels.name, "/", model_->attend.name));
  hello.set("fallbacks", model_->fallbacks);
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
  if (message.type() == "error") return std::unexpected(error_of(message));  // sent away
  const std::string request = message.text("id");
  if (auto done = serve_request(message); !done) {
    Message failure = error_message(done.error());
    failure.set("id", request).set("agent", options_.attach.agent);
    if (auto sent = control_.send(failure); !sent) return pass(sent);
  }
  return true;
}

Status Agent::serve_request(const Message& request) {
  if (request.type() == "start") return start_generation(request);
  if (request.type() == "prepare") return prepare(request);
  if (request.type() == "encode") return encode(request);
  return {};  // a cancel of what has ended already
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

Status Agent::hold(const Message& request) {
  const std::string pool = request.text("pool", pool_);
  const auto version = static_cast<uint64_t>(request.integer("version"));
  if (pool == pool_ && version == layout_.version) return {};
  return take_lease(pool, version);
}

Status Agent::start_generation(const Message& request) {
  if (auto held = hold(request); !held) return held;
  turn_.reset();
  const std::string id = request.text("id");
  const auto on_text = [&](const std::string& text) {
    if (!text.empty()) {
      Message token("token");
      token.set("id", id).set("agent", options_.attach.agent).set("text", text);
      if (!control_.send(token)) return false;
    }
    return !cancelled(id);
  };
  auto result = generate(*model_, layout_, *suffix_, generate_options(request), on_text);
  if (!result) return pass(result);
  if (suffix_->n_tokens() >= result->prompt_tokens) {  // not cancelled on the way there
    turn_ = Turn{id, result->prompt_tokens, result->tokens, result->text};
  }
  return send_done(id, *result);
}

Status Agent::send_done(const std::string& request, const GenerateResult& result) {
  Message done = done_message(request, result);
  done.set("agent", options_.attach.agent).set("pid", static_cast<int64_t>(getpid()));
  done.set("pool", pool_).set("version", static_cast<int64_t>(layout_.version));
  if (auto use = memory_use()) {
    done.set("private_bytes", static_cast<int64_t>(use->private_bytes));
  }
  return control_.send(done);
}

// A group is about to start: hold its version, so that the start cannot fail for want of it.
Status Agent::prepare(const Message& request) {
  if (auto held = hold(request); !held) return held;
  Message prepared("prepared");
  prepared.set("id", request.text("id")).set("agent", options_.attach.agent);
  return control_.send(prepared.set("pool", pool_).set("version", layout_.version));
}

// Hands the turn of `request` over as the segment that follows this version.
Status Agent::encode(const Message& request) {
  if (!turn_ || turn_->request != request.text("request")) {
    return fail(ErrorCode::conflict,
                cat("agent ", options_.attach.agent,
                    " has answered another request since: append "
                    "the turn's text instead"),
                request.text("request"), turn_ ? turn_->request : "");
  }
  auto options = turn_options(request);
  if (!options) return pass(options);
  auto segment = encode_turn(*model_, layout_, *suffix_, *turn_, *options);
  if (!segment) {
    if (suffix_->n_tokens() < turn_->prompt_tokens) turn_.reset();
    return pass(segment);
  }
  struct stat status = {};
  if (::fstat(segment->fd.get(), &status) != 0) return fail_errno("looking at the turn's memory");
  Message turn("turn");
  turn.set("id", request.text("id")).set("agent", options_.attach.agent).set("pool", pool_);
  turn.set("version", layout_.version).set("tokens", segment->n_tokens);
  turn.set_id("inode", status.st_ino);
  return lease_.send(turn.dump(), {segment->fd.get()});
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
