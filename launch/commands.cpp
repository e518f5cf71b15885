// up, ask, append, fork, drop, status, down.
#include "launch/commands.h"

#include <poll.h>

#include <iomanip>
#include <iostream>

#include "ipc/process.h"
#include "launch/inputs.h"
#include "launch/progress.h"

namespace polykv {
namespace {

Message hello() {
  Message message("hello");
  message.set("client", "polykv");
  return message;
}

Status prepare(Client& client, const UpOptions& options, const std::string& context) {
  if (!context.empty()) {
    auto pool = create_pool(client, options.pool, options.codec, context, options.reserve);
    if (!pool) return pass(pool);
    std::cout << "pool " << options.pool << ": " << pool->integer("tokens") << " tokens, "
              << megabytes(static_cast<uint64_t>(pool->integer("bytes"))) << " in " << options.codec
              << '\n';
  }
  if (options.n_agents == 0) return {};
  return start_agents(client, options.pool, options.n_agents);
}

void print_pools(const Message& snapshot, std::ostream& out) {
  out << "\npool             version  tokens  codec     MB  bits/element  segments  versions  "
         "leases\n";
  for (const Message& pool : snapshot.objects("pools")) {
    out << std::left << std::setw(16) << pool.text("pool") << std::right << std::setw(8)
        << pool.integer("version") << std::setw(8) << pool.integer("tokens") << "  " << std::left
        << std::setw(6) << pool.text("codec") << std::right << std::fixed << std::setprecision(1)
        << std::setw(6) << static_cast<double>(pool.integer("bytes")) / 1e6 << std::setprecision(3)
        << std::setw(14) << pool.number("bits_per_element") << std::setw(10)
        << pool.integer("segments") << std::setw(10) << pool.objects("versions").size()
        << std::setw(8) << pool.integer("leases") << '\n';
  }
}

void print_agents(const Message& snapshot, std::ostream& out) {
  out << "\nagent      pid  state     pool             version  private MB  tokens  restarts\n";
  for (const Message& agent : snapshot.objects("agents")) {
    out << std::left << std::setw(6) << agent.text("agent") << std::right << std::setw(8)
        << agent.integer("pid") << "  " << std::left << std::setw(10) << agent.text("state")
        << std::setw(16) << agent.text("pool") << std::right << std::setw(8)
        << agent.integer("version") << std::fixed << std::setprecision(1) << std::setw(12)
        << static_cast<double>(agent.integer("private_bytes")) / 1e6 << std::setw(8)
        << agent.integer("tokens") << std::setw(10) << agent.integer("restarts");
    if (!agent.text("last_error").empty()) out << "  " << agent.text("last_error");
    out << '\n';
  }
}

void print_snapshot(const Message& snapshot, std::ostream& out) {
  out << "supervisor pid " << snapshot.integer("pid") << '\n';
  for (const Message& model : snapshot.objects("models")) {
    out << "model " << model.text("model") << ": " << model.text("name") << ", "
        << megabytes(static_cast<uint64_t>(model.integer("image_bytes"))) << ", fingerprint "
        << model.text("fingerprint") << "; writer pid " << model.integer("writer_pid") << " ("
        << model.text("writer_state") << ", restarted " << model.integer("writer_restarts")
        << " times)\n";
  }
  out << "shared memory held: " << megabytes(static_cast<uint64_t>(snapshot.integer("held_bytes")));
  if (snapshot.has("budget_bytes")) {
    out << " of " << megabytes(static_cast<uint64_t>(snapshot.integer("budget_bytes")));
  }
  out << '\n';
  for (const std::string& fallback : snapshot.texts("fallbacks")) {
    out << "fallback: " << fallback << '\n';
  }
  print_pools(snapshot, out);
  print_agents(snapshot, out);
}

}  // namespace

Status up(const UpOptions& options, int interrupt_fd) {
  std::string context;
  if (!options.context.empty()) {
    auto text = read_context(options.context);
    if (!text) return pass(text);
    context = std::move(*text);
  }
  if (options.n_agents < 0 || options.n_agents > kAgentsMax ||
      (options.n_agents > 0 && context.empty())) {
    return fail(ErrorCode::bad_agent_count,
                cat("cannot start ", options.n_agents, " agents: at most ", kAgentsMax,
                    ", and only over a --context"),
                cat(options.n_agents), cat(kAgentsMax));
  }
  auto session = Session::start(options.supervisor, options.runtime, interrupt_fd);
  if (!session) return pass(session);
  if (auto ready = prepare((*session)->client(), options, context); !ready) {
    return (*session)->stop(ready);
  }
  std::cout << "ready in " << (*session)->runtime()
            << " (polykv ask, append, fork, drop, status, down; Ctrl-C ends it)" << std::endl;
  return (*session)->wait();
}

Status ask(const AskCommand& command, int interrupt_fd) {
  auto client = Client::connect(command.runtime, interrupt_fd);
  if (!client) return pass(client);
  Message request = generate_message(command.pool, command.question, command.ask);
  request.set("version", command.version);
  if (!command.agent.empty()) request.set("agent", command.agent);
  auto done = client->ask(request, [&](const Message& part) {
    if (!command.json) std::cout << part.text("text") << std::flush;
  });
  if (!done) return pass(done);
  std::cout << (command.json ? done->dump() : std::string()) << '\n';
  return {};
}

Status append(const std::string& runtime, const std::string& pool,
              const std::vector<std::string>& paths, int interrupt_fd) {
  auto text = read_context(paths);
  if (!text) return pass(text);
  auto client = Client::connect(runtime, interrupt_fd);
  if (!client) return pass(client);
  auto memory = share_bytes("polykv-text", std::as_bytes(std::span(*text)), memory_room());
  if (!memory) return pass(memory);
  Message request("append");
  request.set("pool", pool);
  ProgressLine line;
  auto answer = client->ask_with_memory(request, memory->get(), 1,
                                        [&](const Message& part) { line.show(part); });
  if (!answer) return pass(answer);
  line.clear();
  const Message& ready = answer->front().message;
  std::cout << "pool " << pool << " version " << ready.integer("version") << ": "
            << ready.integer("tokens") << " tokens in " << ready.integer("segments")
            << " segments, " << ready.integer("prefill_tokens") << " of them prefilled now\n";
  return {};
}

Status fork(const std::string& runtime, const std::string& pool, int64_t version,
            const std::string& to, int interrupt_fd) {
  auto client = Client::connect(runtime, interrupt_fd);
  if (!client) return pass(client);
  Message request("pool_fork");
  const auto ready = client->ask(request.set("pool", pool).set("version", version).set("to", to));
  if (!ready) return pass(ready);
  std::cout << "pool " << to << " version " << ready->integer("version") << ": the "
            << ready->integer("tokens") << " tokens of pool " << pool << ", nothing copied\n";
  return {};
}

Status drop(const std::string& runtime, const std::string& pool, int interrupt_fd) {
  auto client = Client::connect(runtime, interrupt_fd);
  if (!client) return pass(client);
  const auto dropped = client->ask(Message("pool_drop").set("pool", pool));
  if (!dropped) return pass(dropped);
  std::cout << "pool " << pool << " is dropped";
  if (const int64_t leases = dropped->integer("leases"); leases > 0) {
    std::cout << "; its memory is free when the " << leases << " lease(s) on it end";
  }
  std::cout << '\n';
  return {};
}

Status show_status(const std::string& runtime, bool json, int interrupt_fd) {
  auto client = Client::connect(runtime, interrupt_fd);
  if (!client) return pass(client);
  auto snapshot = client->ask(Message("status"));
  if (!snapshot) return pass(snapshot);
  if (json) {
    std::cout << snapshot->dump() << '\n';
  } else {
    print_snapshot(*snapshot, std::cout);
  }
  return {};
}

Status down(const std::string& runtime, int interrupt_fd) {
  auto client = Client::connect(runtime, interrupt_fd);
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
