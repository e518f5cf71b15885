// An agent without a model: it answers with its prompt, and the prompt says how to misbehave.
//   pool "broken": it ends with exit code 3 once it is attached
//   prompt: see generate(); tokens to score: see score()
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>

#include "ipc/control.h"
#include "ipc/fd_socket.h"
#include "ipc/memory.h"
#include "tests/launch/small_segment.h"

namespace polykv {
namespace {

// A version that it holds.
struct Held {
  std::string pool;
  int64_t version = 0;
  FdSocket lease;
  Fingerprint prefix{};
};
using HeldRef = std::shared_ptr<Held>;

// What a lane answered last, and to which start.
struct Turn {
  std::string id, text;
};

struct FakeAgent {
  std::string runtime, name, model;
  size_t lanes = 1;
  int64_t threads = 0;
  ControlClient control;
  HeldRef held = {};  // the newest; a lane that runs keeps its own
  int64_t generations = 0;
  std::map<std::string, HeldRef> hanging = {};  // lanes that run, by the id of their start
  std::deque<Turn> turns = {};                  // of idle lanes, oldest first, all on `held`

  bool attach(const std::string& pool, int64_t version) {
    auto socket = FdSocket::connect(runtime + "/fd");
    if (!socket) return false;
    Message request("attach");
    request.set("agent", name).set("pool", pool).set("version", version);
    if (!model.empty()) request.set("model", model);
    if (!socket->send(request.dump())) return false;
    auto packet = socket->receive();
    if (!packet) return false;
    auto granted = Message::parse(packet->text);
    if (!granted || granted->type() != "granted") return false;
    const auto spans = static_cast<size_t>(granted->integer("spans"));
    if (packet->fds.size() != spans + 2) return false;  // image and manifest, too
    auto next = std::make_shared<Held>(pool, granted->integer("version"));
    for (size_t i = 2; i < packet->fds.size(); ++i) {
      const auto segment = SegmentView::open(std::move(packet->fds[i]), Verify::header);
      if (!segment) return false;
      next->prefix = chain_hash(next->prefix, segment->tokens());
    }
    next->lease = std::move(*socket);
    held = next;  // the one before ends only now, if no lane runs on it
    turns.clear();
    return true;
  }

  bool say_hello() {
    Message hello("agent_hello");
    hello.set("agent", name).set("pid", 1).set("attach_ms", 1.5).set("kernel", "fake");
    hello.set("version", held->version).set("pool", held->pool).set("lanes", lanes);
    if (threads > 0) hello.set("threads", threads);
    if (!model.empty()) hello.set("model", model);
    return static_cast<bool>(control.send(hello.set("fallbacks", std::vector<std::string>{})));
  }

  void done(const std::string& id, const std::string& reason, const std::string& text,
            const HeldRef& on) {
    Message answer("done");
    answer.set("id", id).set("agent", name).set("pid", ::getpid()).set("pool", on->pool);
    answer.set("version", on->version).set("reason", reason).set("text", text);
    (void)control.send(answer.set("prompt_tokens", 1).set("tokens", 1));
    if (on == held) turns.push_back({id, text});
  }
  void done(const std::string& id, const std::string& reason, const std::string& text) {
    done(id, reason, text, held);
  }

  void token(const std::string& id, const std::string& text) {
    (void)control.send(Message("token").set("id", id).set("agent", name).set("text", text));
  }

  bool cancelled(const std::string& id) {
    while (true) {
      auto message = control.receive(0);
      if (!message) return true;
      if (!*message) return false;
      if ((*message)->type() == "stop") return true;
      if ((*message)->type() == "cancel" && (*message)->text("request") == id) return true;
    }
  }

  void cancel(const std::string& id) {
    const auto found = hanging.extract(id);
    if (found) done(id, "cancelled", "on and ", found.mapped());
  }

  void hold(const Message& request) {
    const std::string pool = request.text("pool");
    if (request.integer("version") == held->version && pool == held->pool) return;
    if (!attach(pool, request.integer("version"))) std::exit(4);
  }

  // On a pool "unprepared" it fails, on "deadly" it dies, on "slow" it never answers.
  void prepare(const Message& request) {
    const std::string wanted = request.text("pool");
    if (wanted == "deadly" && name == "a02") (void)std::raise(SIGKILL);
    if (wanted == "unprepared" && name == "a02") {
      Message error = error_message({ErrorCode::memory_limit, "no room for it", "9", "8"});
      return (void)control.send(error.set("id", request.text("id")).set("agent", name));
    }
    if (wanted == "slow" && name == "a02") return;
    hold(request);
    Message prepared("prepared");
    prepared.set("id", request.text("id")).set("agent", name).set("pool", held->pool);
    (void)control.send(prepared.set("version", held->version));
  }

  void refuse(const Message& request, const Error& error) {
    Message message = error_message(error);
    (void)control.send(message.set("id", request.text("id")).set("agent", name));
  }

  // An answer's bytes as tokens. Answers that say so become bad turns.
  void encode(const Message& request) {
    const auto found = std::ranges::find(turns, request.text("request"), &Turn::id);
    if (found == turns.end()) {
      return refuse(request, {ErrorCode::conflict, "its lane has another since", {}, {}});
    }
    const std::string turn = found->text;
    if (turn == "encode dies") (void)std::raise(SIGKILL);
    if (turn == "encode hangs") return;
    if (turn == "encode fails") {
      return refuse(request, {ErrorCode::context_too_long, "too long a turn", "9", "8"});
    }
    auto spec =
        testing::small_spec({turn.begin(), turn.end()},
                            *parse_codec(turn == "other codec" ? "f16" : request.text("codec")));
    spec.starts_context = false;
    spec.mode = EncodeMode::after_prefix;
    spec.prefix = turn == "other prefix" ? testing::small_model(0x22) : held->prefix;
    if (turn != "other provenance") spec.provenance = Provenance::committed_turn;
    auto segment = testing::small_segment(spec);
    if (segment && turn == "spoiled") segment = testing::spoiled_segment(std::move(*segment));
    if (!segment) std::exit(5);
    Message answer("turn");
    answer.set("id", request.text("id")).set("agent", name).set("pool", held->pool);
    answer.set("version", held->version).set("tokens", spec.tokens.size());
    struct stat status = {};
    if (::fstat(segment->get(), &status) != 0) std::exit(6);
    answer.set_id("inode", status.st_ino + (turn == "other memory" ? 1 : 0));
    (void)held->lease.send(answer.dump(), {segment->get()});
  }

  void generate(const Message& start) {
    const std::string id = start.text("id");
    std::string prompt = start.text("prompt");
    if (start.has("messages")) prompt = start.objects("messages").back().text("content");
    ++generations;
    hold(start);
    // It takes a lane that has computed nothing yet, or the one that has rested longest.
    if (hanging.size() + turns.size() >= lanes && !turns.empty()) turns.pop_front();
    if (prompt == "seed") return done(id, "eos", start.text("seed"));
    if (prompt == "deaf") return;  // never answers, whatever it is told
    if (prompt == "die") (void)std::raise(SIGKILL);
    if (prompt == "error") {
      Message error = error_message({ErrorCode::context_too_long, "too long", "9", "8"});
      return (void)control.send(error.set("id", id).set("agent", name));
    }
    if (prompt == "count") return done(id, "eos", cat(generations));
    if (prompt == "hang") {
      hanging[id] = held;
      return token(id, "on and ");
    }
    if (prompt == "stream") {
      do token(id, "on and ");
      while (!cancelled(id));
      return done(id, "cancelled", "on and ");
    }
    token(id, prompt);
    done(id, "eos", prompt);
  }

  // One token: it dies; two: it never answers; more: their bytes come back as scores.
  bool score() {
    auto packet = held->lease.receive();
    if (!packet || packet->fds.size() != 1) return false;  // the lease ended
    const auto request = Message::parse(packet->text);
    const auto tokens = SharedView::map(std::move(packet->fds[0]));
    if (!request || !tokens) return false;
    const size_t rows = tokens->data().size() / sizeof(uint32_t);
    if (rows == 1) (void)std::raise(SIGKILL);
    if (rows == 2) return true;
    Message scores("scores");
    scores.set("id", request->text("id")).set("rows", rows).set("vocab", 1);
    return static_cast<bool>(held->lease.send(scores.dump(), {tokens->fd()}));
  }

  int serve() {
    while (true) {
      auto message = control.receive(-1, held->lease.fd());
      if (!message || (*message && (*message)->type() == "stop")) return 0;
      if (!*message && !score()) return 0;
      if (*message && (*message)->type() == "start") generate(**message);
      if (*message && (*message)->type() == "prepare") prepare(**message);
      if (*message && (*message)->type() == "encode") encode(**message);
      if (*message && (*message)->type() == "cancel") cancel((*message)->text("request"));
    }
  }
};

int run(std::map<std::string, std::string> options) {
  const std::string runtime = options["--runtime"], name = options["--agent"];
  auto control = ControlClient::connect(runtime + "/ctl", cat("agent:", name, ":", ::getpid()));
  if (!control) return 1;
  FakeAgent agent{.runtime = runtime,
                  .name = name,
                  .model = options["--model"],
                  .control = std::move(*control)};
  if (options.contains("--lanes")) agent.lanes = std::stoul(options["--lanes"]);
  if (options.contains("--threads")) agent.threads = std::stol(options["--threads"]);
  const std::string pool = options["--pool"];
  if (!agent.attach(pool, std::strtoll(options["--pool-version"].c_str(), nullptr, 10))) return 2;
  if (pool == "broken") return 3;
  return agent.say_hello() ? agent.serve() : 1;
}

}  // namespace
}  // namespace polykv

int main(int argc, char** argv) {
  std::map<std::string, std::string> options;
  for (int i = 1; i + 1 < argc; i += 2) options[argv[i]] = argv[i + 1];
  return polykv::run(options);
}
