// Tables of pools and agents.
#include "launch/status_view.h"

#include <iomanip>
#include <ostream>

#include "launch/registry.h"

namespace polykv {
namespace {

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

}  // namespace

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

}  // namespace polykv
