// up, ask, append, fork, drop, pin, unpin, agent start, agent stop, status, down.
#include "launch/commands.h"

#include <poll.h>

#include <iostream>

#include "ipc/process.h"
#include "launch/inputs.h"
#include "launch/report.h"
#include "launch/status_view.h"
#include "launch/watch.h"

namespace polykv {
namespace {

Message hello() {
  Message message("hello");
  message.set("client", "polykv");
  return message;
}

// A request about the command's pool.
Message about_pool(std::string_view type, const ClientCommand& command) {
  Message request(type);
  request.set("pool", command.pool);
  if (!command.model.empty()) request.set("model", command.model);
  return request;
}

Message& set_positive(Message& request, std::string_view field, int64_t value) {
  return value > 0 ? request.set(field, value) : request;
}

Message& set_deadline(Message& request, double seconds) {
  return seconds > 0 ? request.set("deadline_seconds", seconds) : request;
}

// One request, one answer.
Result<Message> ask_once(const ClientCommand& command, Message request, int interrupt_fd) {
  auto client = Client::connect(command.runtime, interrupt_fd);
  if (!client) return pass(client);
  return client->ask(std::move(request));
}

Status prepare_pool(Client& client, const PoolEntry& pool, const std::string& context) {
  ClientCommand about;
  about.pool = pool.name;
  about.model = pool.model;
  Message create = about_pool("pool_create", about);
  create.set("codec", pool.codec).set("reserve", pool.reserve);
  set_positive(create, "ttl_seconds", pool.ttl_seconds);
  auto ready = ask_with_text(client, std::move(create), context);
  if (!ready) return pass(ready);
  std::cout << "pool " << pool.name << ": " << ready->integer("tokens") << " tokens, "
            << megabytes(static_cast<uint64_t>(ready->integer("bytes"))) << " in " << pool.codec
            << '\n';
  if (pool.agents == 0) return {};
  auto started = start_agents(client, about_pool("agents_start", about).set("count", pool.agents));
  return started ? Status() : Status(pass(started));
}

Status prepare(Client& client, const Deployment& deployment,
               const std::vector<std::string>& contexts) {
  for (size_t i = 0; i < contexts.size(); ++i) {
    if (contexts[i].empty()) continue;
    auto ready = prepare_pool(client, deployment.pools[i], contexts[i]);
    if (!ready) return ready;
  }
  return {};
}

// A pool without a context is the first append's to make: nothing is read for it.
Result<std::vector<std::string>> read_contexts(const Deployment& deployment) {
  std::vector<std::string> contexts;
  for (const PoolEntry& pool : deployment.pools) {
    auto text = pool.context.empty() ? Result<std::string>("") : read_context(pool.context);
    if (!text) return pass(text);
    contexts.push_back(std::move(*text));
  }
  return contexts;
}

}  // namespace

Status up(const Deployment& deployment, int interrupt_fd) {
  auto contexts = read_contexts(deployment);
  if (!contexts) return pass(contexts);
  SupervisorOptions options = supervisor_options(deployment);
  options.restart_agents = true;
  auto session = Session::start(options, deployment.runtime, interrupt_fd);
  if (!session) return pass(session);
  if (auto ready = prepare((*session)->client(), deployment, *contexts); !ready) {
    return (*session)->stop(ready);
  }
  std::cout << "ready in " << (*session)->runtime()
            << " (polykv ask, append, fork, drop, status, down; Ctrl-C ends it)" << std::endl;
  return (*session)->wait();
}

Message generate_request(const AskCommand& command) {
  Message request = generate_message(command.pool, command.ask);
  if (!command.model.empty()) request.set("model", command.model);
  if (!command.agent.empty()) request.set("agent", command.agent);
  set_positive(request, "version", command.version);
  set_positive(request, "at_least", command.at_least);
  return set_deadline(request, command.deadline_seconds);
}

Status ask(const AskCommand& command, int interrupt_fd) {
  auto client = Client::connect(command.runtime, interrupt_fd);
  if (!client) return pass(client);
  Message request = generate_request(command);
  std::vector<Message> logprobs;
  auto done = client->ask(request.set("prompt", command.question), [&](const Message& part) {
    append_logprobs(part, logprobs);
    if (!command.json) std::cout << part.text("text") << std::flush;
  });
  if (!done) return pass(done);
  if (!logprobs.empty()) done->set("logprobs", logprobs);
  std::cout << (command.json ? done->dump() : std::string()) << '\n';
  if (!command.json) print_logprobs(logprobs, std::cout);
  return {};
}

Status append(const ClientCommand& command, int interrupt_fd) {
  auto text = read_context(command.paths);
  if (!text) return pass(text);
  auto client = Client::connect(command.runtime, interrupt_fd);
  if (!client) return pass(client);
  Message request = about_pool("append", command);
  if (!command.role.empty()) request.set("role", command.role);
  set_deadline(request, command.deadline_seconds);
  const auto ready = ask_with_text(*client, std::move(request), *text);
  if (!ready) return pass(ready);
  std::cout << "pool " << command.pool << " version " << ready->integer("version") << ": "
            << ready->integer("tokens") << " tokens in " << ready->integer("segments")
            << " segments, " << ready->integer("prefill_tokens") << " of them prefilled now\n";
  return {};
}

Status fork(const ClientCommand& command, int interrupt_fd) {
  Message request = about_pool("pool_fork", command);
  request.set("version", command.version).set("to", command.to);
  set_positive(request, "ttl_seconds", command.ttl_seconds);
  const auto ready = ask_once(command, std::move(request), interrupt_fd);
  if (!ready) return pass(ready);
  std::cout << "pool " << command.to << " version " << ready->integer("version") << ": the "
            << ready->integer("tokens") << " tokens of pool " << command.pool
            << ", nothing copied\n";
  return {};
}

Status drop(const ClientCommand& command, int interrupt_fd) {
  const auto dropped = ask_once(command, about_pool("pool_drop", command), interrupt_fd);
  if (!dropped) return pass(dropped);
  std::cout << "pool " << command.pool << " is dropped";
  if (const int64_t leases = dropped->integer("leases"); leases > 0) {
    std::cout << "; its memory is free when the " << leases << " lease(s) on it end";
  }
  std::cout << '\n';
  return {};
}

Status pin(const ClientCommand& command, int interrupt_fd) {
  Message request = about_pool("pool_pin", command);
  request.set("version", command.version);
  set_positive(request, "ttl_seconds", command.ttl_seconds);
  const auto pinned = ask_once(command, std::move(request), interrupt_fd);
  if (!pinned) return pass(pinned);
  std::cout << "pool " << command.pool << " version " << pinned->integer("version")
            << " is pinned\n";
  return {};
}

Status unpin(const ClientCommand& command, int interrupt_fd) {
  Message request = about_pool("pool_unpin", command);
  const auto ok = ask_once(command, request.set("version", command.version), interrupt_fd);
  if (!ok) return pass(ok);
  std::cout << "pool " << command.pool << " version " << command.version
            << " is no longer pinned\n";
  return {};
}

Status agent_start(const ClientCommand& command, int interrupt_fd) {
  if (command.count < 1 || command.count > kAgentsMax) {
    return fail(ErrorCode::bad_agent_count,
                cat(command.count, " agents: from 1 to ", kAgentsMax, " can run in one runtime"),
                cat(command.count), cat(kAgentsMax));
  }
  auto client = Client::connect(command.runtime, interrupt_fd);
  if (!client) return pass(client);
  Message request = about_pool("agents_start", command);
  request.set("count", command.count);
  set_positive(request, "version", command.version);
  const auto started = start_agents(*client, set_deadline(request, command.deadline_seconds));
  if (!started) return pass(started);
  for (const std::string& agent : started->texts("agents")) std::cout << agent << '\n';
  return {};
}

Status agent_stop(const ClientCommand& command, int interrupt_fd) {
  Message request("agents_stop");
  if (!command.agent.empty()) request.set("agent", command.agent);
  const auto stopped = ask_once(command, std::move(request), interrupt_fd);
  return stopped ? Status() : Status(pass(stopped));
}

Status show_status(const StatusCommand& command, int interrupt_fd) {
  if (command.watch) return watch_status(command.runtime, interrupt_fd);
  auto client = Client::connect(command.runtime, interrupt_fd);
  if (!client) return pass(client);
  auto snapshot = client->ask(Message("status"));
  if (!snapshot) return pass(snapshot);
  if (command.json) {
    std::cout << snapshot->dump() << '\n';
  } else {
    for (const std::string& line : status_lines(*snapshot, {}, 0)) std::cout << line << '\n';
  }
  return {};
}

Status down(const ClientCommand& command, int interrupt_fd) {
  auto client = Client::connect(command.runtime, interrupt_fd);
  if (!client) return pass(client);
  auto welcome = client->ask(hello());
  if (!welcome) return pass(welcome);
  auto supervisor = watch_process(static_cast<pid_t>(welcome->integer("runtime")));
  if (!supervisor) return pass(supervisor);
  if (auto ok = client->ask(Message("shutdown")); !ok) return pass(ok);
  pollfd waits[] = {{supervisor->get(), POLLIN, 0}, {interrupt_fd, POLLIN, 0}};
  while (::poll(waits, 2, -1) < 0 && errno == EINTR) {
  }
  if (waits[0].revents != 0) return {};
  return fail(ErrorCode::cancelled, "interrupted before the runtime had ended");
}

}  // namespace polykv
