// The agent's loop: leases, requests, answers.
#include "agents/agent.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "agents/request.h"
#include "agents/score.h"
#include "ipc/process.h"

namespace polykv {
namespace {

constexpr auto kTextEvery =
    std::chrono::milliseconds(20);  // fifty times a second reads as a stream
constexpr auto kTextEveryOfMany = std::chrono::milliseconds(4);  // times the lanes at work

// Its end is something to read, too.
bool is_readable(int fd) {
  pollfd wait{fd, POLLIN, 0};
  return ::poll(&wait, 1, 0) > 0;
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

// Moves to a version of a pool: the new lease first; the old one ends with its last lane.
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
    lanes_.emplace(*model_, options_.n_lanes);
  }
  auto layout = open_layout(std::move(grant->manifest), std::move(grant->segments),
                            model_->image.fingerprint(), model_->image.config().kv_shape(),
                            options_.verify ? Verify::everything : Verify::header);
  if (!layout) return pass(layout);
  move_to(std::make_shared<Holding>(*model_, model_->team, std::move(grant->lease), grant->pool,
                                    std::move(*layout)));
  return {};
}

void Agent::move_to(std::shared_ptr<Holding> holding) {
  held_ = std::move(holding);
  lanes_->keep_only(held_);  // what was computed belongs to the version before
}

Status Agent::say_hello() {
  Message hello("agent_hello");
  hello.set("agent", options_.attach.agent).set("pid", static_cast<int64_t>(getpid()));
  if (!options_.attach.model.empty()) hello.set("model", options_.attach.model);
  hello.set("pool", held_->pool).set("version", held_->layout.version);
  hello.set("lanes", options_.n_lanes).set("threads", options_.n_threads);
  hello.set("kernel", cat(model_->kernels.name, "/", model_->attend.name));
  hello.set("fallbacks", model_->fallbacks);
  hello.set("attach_ms", static_cast<double>(monotonic_ns() - options_.started_ns) / 1e6);
  return control_.send(hello);
}

// While there is work, a look at the sockets between two passes; else until one has something.
Status Agent::serve() {
  while (!stop_) {
    auto message = control_.receive(lanes_->busy() ? 0 : -1, held_->lease.fd());
    if (!message) return pass(message);
    if (*message) {
      if (auto served = serve_control(**message); !served) return served;
      continue;
    }
    if (lanes_->busy()) {
      if (auto sent = step(); !sent) return sent;
      if (!is_readable(held_->lease.fd())) continue;
    }
    auto go_on = serve_lease();
    if (!go_on) return pass(go_on);
    if (!*go_on) return {};
  }
  return {};
}

// What a pass decided is sent on.
Status Agent::step() {
  Status sent;
  const auto on_text = [&](const Lane& lane, const std::string& text) {
    if (sent) sent = take_text(lane, text);
  };
  lanes_->step(on_text, [&](const Lane& lane) {
    if (sent) sent = send_done(lane);
  });
  lanes_->keep_only(held_);  // who has just ended on a former version lets go of it
  return sent;
}

Status Agent::serve_control(const Message& message) {
  if (message.type() == "error") return std::unexpected(error_of(message));  // sent away
  if (message.type() == "stop") stop_ = true;
  if (stop_) return {};
  if (auto done = serve_request(message); !done) {
    Message failure = error_message(done.error());
    failure.set("id", message.text("id")).set("agent", options_.attach.agent);
    return control_.send(failure);
  }
  return {};
}

Status Agent::serve_request(const Message& request) {
  if (request.type() == "start") return start_generation(request);
  if (request.type() == "prepare") return prepare(request);
  if (request.type() == "encode") return encode(request);
  if (request.type() == "cancel") return cancel(request);
  return {};
}

// The lease became readable: its end, or memory that comes with a request.
Result<bool> Agent::serve_lease() {
  FdSocket& lease = held_->lease;
  auto packet = lease.receive();
  if (!packet) return false;
  auto request = Message::parse(packet->text);
  if (!request) return pass(request);
  if (request->type() != "score") return true;
  if (auto done = score_tokens(*request, std::move(packet->fds)); !done) {
    Message failure = error_message(done.error());
    failure.set("id", request->text("id"));
    if (auto sent = lease.send(failure.dump()); !sent) return pass(sent);
  }
  return true;
}

// The version that a request names: the newest, one that a lane is still on, or a new lease.
Status Agent::hold(const Message& request) {
  const std::string pool = request.text("pool", held_->pool);
  const auto version = static_cast<uint64_t>(request.integer("version"));
  if (pool == held_->pool && version == held_->layout.version) return {};
  auto known = lanes_->find(pool, version);
  if (!known) return take_lease(pool, version);
  move_to(std::move(known));
  return {};
}

Status Agent::start_generation(const Message& request) {
  if (auto held = hold(request); !held) return held;
  return lanes_->start(held_, request.text("id"),
                       generate_options(request, model_->image.sampling()));
}

Status Agent::cancel(const Message& request) {
  Status sent;  // also when what it names has ended already
  lanes_->cancel(request.text("request"), [&](const Lane& lane) { sent = send_done(lane); });
  lanes_->keep_only(held_);
  return sent;
}

// What comes soon after a lane's last text waits for the next, so that fast answers, and many at
// once, do not wake everybody on the text's way for each token, on the cores that compute the one
// after it.
Status Agent::take_text(const Lane& lane, const std::string& text) {
  Unsent& unsent = unsent_[lane.request];
  unsent.text += text;
  const auto now = std::chrono::steady_clock::now();
  const auto every =
      std::max<std::chrono::steady_clock::duration>(kTextEvery, kTextEveryOfMany * unsent_.size());
  const bool goes_alone = !lane.answer->logprobs().empty();
  if (!goes_alone && now - unsent.last_sent < every) return {};
  unsent.last_sent = now;
  return send_text(lane, std::exchange(unsent.text, {}));
}

Status Agent::send_text(const Lane& lane, const std::string& text) {
  Message token("token");
  token.set("id", lane.request).set("agent", options_.attach.agent).set("text", text);
  if (const auto logprobs = lane.answer->logprobs(); !logprobs.empty()) {
    token.set("logprobs", std::vector{logprob_message(model_->image.tokenizer(), logprobs)});
  }
  return control_.send(token);
}

Status Agent::send_done(const Lane& lane) {
  if (const auto left = unsent_.extract(lane.request); left && !left.mapped().text.empty()) {
    if (auto sent = send_text(lane, left.mapped().text); !sent) return sent;
  }
  Message done = done_message(lane.request, lane.answer->result());
  done.set("agent", options_.attach.agent).set("pid", static_cast<int64_t>(getpid()));
  done.set("pool", lane.on->pool).set("version", lane.on->layout.version);
  return control_.send(done);
}

// A group is about to start: hold its version, so that the start cannot fail for want of it.
Status Agent::prepare(const Message& request) {
  if (auto held = hold(request); !held) return held;
  Message prepared("prepared");
  prepared.set("id", request.text("id")).set("agent", options_.attach.agent);
  return control_.send(prepared.set("pool", held_->pool).set("version", held_->layout.version));
}

// Hands the turn of `request` over as the segment that follows its version.
Status Agent::encode(const Message& request) {
  Lane* lane = lanes_->with_turn(request.text("request"));
  if (lane == nullptr) {
    return fail(ErrorCode::conflict,
                cat("agent ", options_.attach.agent,
                    " has answered another request since: append the turn's text instead"),
                request.text("request"), "");
  }
  auto options = turn_options(request);
  if (!options) return pass(options);
  auto segment = encode_turn(*model_, lane->on->layout, lane->suffix, *lane->turn, *options);
  if (!segment) {
    if (lane->suffix.n_tokens() < lane->turn->prompt_tokens) lane->turn.reset();
    return pass(segment);
  }
  struct stat status = {};
  if (::fstat(segment->fd.get(), &status) != 0) return fail_errno("looking at the turn's memory");
  Message turn("turn");
  turn.set("id", request.text("id")).set("agent", options_.attach.agent);
  turn.set("pool", lane->on->pool).set("version", lane->on->layout.version);
  turn.set("tokens", segment->n_tokens).set_id("inode", status.st_ino);
  return lane->on->lease.send(turn.dump(), {segment->fd.get()});
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
    (void)held_->lease.send(message.dump());  // a lost connection shows at the next receive
  };
  auto scores = score(*model_, held_->layout, tokens, progress);
  if (!scores) return pass(scores);
  Message answer("scores");
  answer.set("id", request.text("id")).set("rows", static_cast<int64_t>(tokens.size()));
  answer.set("vocab", int64_t{model_->image.config().n_vocab});
  return held_->lease.send(answer.dump(), {scores->get()});
}

}  // namespace polykv
