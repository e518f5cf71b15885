// Who gets which message: over ZeroMQ and over SEQPACKET.
#include <unistd.h>

#include "ipc/log.h"
#include "launch/supervisor.h"

namespace polykv {
namespace {

std::unexpected<Error> needs_id(const std::string& type) {
  return fail(ErrorCode::bad_message,
              cat("'", type, "' needs an \"id\", so that its answer can be told"), type);
}

// What its writer does not use, though it is there: that of the last one.
void take_fallbacks(ModelSlot& model, const Message& hello) {
  model.fallbacks.clear();
  for (const std::string& fallback : hello.texts("fallbacks")) {
    model.fallbacks.push_back(cat("writer of ", model.name, ": ", fallback));
    log_line(LogLevel::warning, model.fallbacks.back(), {{"model", model.name}});
  }
}

}  // namespace

void Supervisor::handle_request(const Request& request) {
  auto message = Message::parse(request.text);
  if (auto good = check_user(request.uid); !good) message = pass(good);
  if (!message) {
    const std::string id = id_of_refused(request.text);
    return replies_.refuse({.client = request.sender, .link = 0, .request = id}, message.error());
  }
  if (message->type() == "agent_hello") {
    const Link* lease = leases_.newest_of(message->text("agent"));
    return agents_.hello(request.sender, *message, lease == nullptr ? 0 : lease->pid);
  }
  if (AgentRecord* agent = agents_.table().by_routing(request.sender)) {
    return agent_message(*agent, *message);
  }
  client_request(request.sender, *message);
}

void Supervisor::agent_message(AgentRecord& agent, const Message& message) {
  const LaneTask* task = agent.find_task(message.text("id"));
  if (task != nullptr && !task->work) return commits_.agent_message(agent, *task, message);
  generations_.agent_message(agent, message);
}

void Supervisor::cancel(const std::string& client, const std::string& request) {
  generations_.cancel(client, request);
  commits_.cancel(client, request);
  agents_.cancel(client, request);
  pool_jobs_.cancel({.client = client, .link = 0, .request = request});
}

// Whoever asked is gone: what only it would have heard of is not worth any more work.
void Supervisor::client_gone(const std::string& client) {
  generations_.client_gone(client);
  commits_.client_gone(client);
  pool_jobs_.client_gone(client);
}

// Requests that are carried out however often they come; the others are long_request's.
void Supervisor::client_request(const std::string& client, const Message& message) {
  const std::string type = message.type();
  const Asker asker{.client = client, .link = 0, .request = message.text("id")};
  if (type == "hello") {
    Message welcome("welcome");
    welcome.set("runtime", ::getpid()).set("version", POLYKV_VERSION);
    return replies_.reply(asker, welcome);
  }
  if (type == "status") return replies_.reply(asker, snapshot());
  if (type == "cancel") {
    cancel(client, message.text("request"));
    return replies_.reply(asker, Message("ok"));
  }
  if (asker.request.empty()) return replies_.refuse(asker, needs_id(type).error());
  if (replies_.is_new(asker)) long_request(asker, message);
}

void Supervisor::long_request(const Asker& asker, const Message& message) {
  const std::string type = message.type();
  pool_keeper_.used(message);
  if (type == "pool_create" || type == "append") {
    return pool_jobs_.write_pool(asker, message, UniqueFd());
  }
  if (type == "pool_fork" || type == "pool_drop" || type == "pool_pin" || type == "pool_unpin") {
    pool_keeper_.change(asker, message);
    return generations_.pools_changed();
  }
  if (type == "agents_start") return agents_.start(asker, message);
  if (type == "agents_stop") return agents_.stop(asker, message);
  if (type == "generate" || type == "group_generate") {
    return generations_.generate(asker, message);
  }
  if (type == "commit") return commits_.commit(asker, message);
  if (type == "shutdown") {
    replies_.reply(asker, Message("ok"));
    running_ = false;
    return;
  }
  replies_.refuse(asker,
                  {ErrorCode::bad_message, cat("clients do not send '", type, "'"), type, {}});
}

bool Supervisor::handle_packet(Link& link, Packet packet) {
  auto message = Message::parse(packet.text);
  if (!message) {
    (void)refuse(link.socket, message.error(), id_of_refused(packet.text));
    return false;
  }
  if (link.role == Link::Role::agent) {
    leases_.agent_packet(link, *message, std::move(packet.fds));
    return true;
  }
  if (message->type() == "writer_hello") return writer_hello(link, *message);
  pool_keeper_.used(*message);
  if (message->type() == "attach") return leases_.grant(link, *message);
  return client_packet(link, *message, std::move(packet.fds));
}

// An agent listens where it holds what it was told last, however new its other leases are.
Link* Supervisor::lease_for_score(const std::string& name) {
  const AgentRecord* agent = agents_.table().find(name);
  if (agent == nullptr) return leases_.newest_of(name);
  return leases_.on_version(name, agent->told_pool, agent->told_version);
}

// Requests whose payload is memory: pool_create, append and tokenize + text; prefill and score +
// tokens.
bool Supervisor::client_packet(Link& link, const Message& message, std::vector<UniqueFd> fds) {
  link.role = Link::Role::client;
  const std::string type = message.type();
  const Asker asker{.client = "", .link = link.id, .request = message.text("id")};
  if (asker.request.empty()) return refuse(link.socket, needs_id(type).error());
  if (type == "cancel") {
    pool_jobs_.cancel({.client = "", .link = link.id, .request = message.text("request")});
    return static_cast<bool>(link.socket.try_send(Message("ok").set("id", asker.request).dump()));
  }
  if (fds.size() != 1) {
    return refuse(
        link.socket,
        {ErrorCode::bad_message, cat("'", type, "' needs one descriptor, got ", fds.size()),
         cat(fds.size()), "1"},
        asker.request);
  }
  if (type == "pool_create" || type == "append") {
    pool_jobs_.write_pool(asker, message, std::move(fds[0]));
  } else if (type == "tokenize") {
    pool_jobs_.tokenise_for(asker, message, std::move(fds));
  } else if (type == "prefill") {
    pool_jobs_.prefill_for(asker, message, std::move(fds));
  } else if (type == "score") {
    leases_.forward_score(link, lease_for_score(message.text("agent")), message, std::move(fds));
  } else {
    return refuse(
        link.socket,
        {ErrorCode::bad_message, cat("'", type, "' is not a request that comes with memory"), type,
         "pool_create, append, tokenize, prefill, score"},
        asker.request);
  }
  return true;
}

// The children that this supervisor started are writers, and for a model whose writer is started by
// hand the first that says so.
ModelSlot* Supervisor::slot_of_writer(pid_t pid, const std::string& model) {
  for (const auto& slot : models_.all()) {
    if (slot->writer.state() != WriterLink::State::starting) continue;
    const bool named = model.empty() ? slot == models_.all().front() : slot->name == model;
    if (slot->writer.by_hand() ? named : pid == slot->writer.pid()) return slot.get();
  }
  return nullptr;
}

bool Supervisor::writer_hello(Link& link, const Message& hello) {
  const std::string name = hello.text("model");
  ModelSlot* model = slot_of_writer(link.pid, name);
  if (model == nullptr) {
    (void)refuse(link.socket,
                 {ErrorCode::runtime_busy,
                  "this runtime has a writer already, starts its own, or has no such model",
                  name,
                  {}});
    return false;
  }
  const HeldImage* image = model->registry.image();
  if (model->writer.by_hand()) {
    log_line(LogLevel::info, cat("a writer was started by hand (pid ", link.pid, ")"),
             {{"model", model->name}});
  }
  take_fallbacks(*model, hello);
  model->writer.connected(std::move(link.socket), link.pid, model->path,
                          image == nullptr ? -1 : image->fd.get(),
                          image == nullptr ? "" : image->fingerprint);
  return false;  // the link lives on as the writer's
}

// Messages of the writer that belong to no job: the image, progress of packing, its failure.
void Supervisor::writer_message(ModelSlot& model, const Message& message,
                                std::vector<UniqueFd> fds) {
  if (message.type() == "image" && !fds.empty()) {
    for (const std::string& notice : message.texts("notices")) log_line(LogLevel::info, notice);
    const auto number = [&message](const char* name) {
      return static_cast<uint32_t>(message.integer(name));
    };
    const KvShape shape{number("layers"),
                        number("kv_heads"),
                        number("head_dim"),
                        {.tokens = number("window"), .period = number("window_period")}};
    auto kept = model.registry.set_image(std::move(fds[0]), message.text("name"),
                                         message.text("fingerprint"), number("positions"), shape,
                                         message.text("sampling"));
    if (kept) {
      model.image_source = message.text("source", "packed");
      model.failure.reset();  // of a writer before
      return model.writer.image_ready();
    }
    model_failed(model, kept.error());
  } else if (message.type() == "error" && model.registry.image() == nullptr) {
    model_failed(model, error_of(message));
  }
}

}  // namespace polykv
