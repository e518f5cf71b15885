// The view: a head, tables of models, pools and agents, what went wrong, what happened.
#include "launch/status_view.h"

#include <algorithm>

#include "launch/registry.h"
#include "launch/text_table.h"

namespace polykv {
namespace {

using Lines = std::vector<std::string>;

std::string in_mb(const Message& message, std::string_view field) {
  return fixed(static_cast<double>(message.integer(field)) / 1e6, 1);
}

void add(Lines& all, const Lines& more) { all.insert(all.end(), more.begin(), more.end()); }

Lines head(const Message& snapshot) {
  std::string memory =
      "shared memory held: " + megabytes(static_cast<uint64_t>(snapshot.integer("held_bytes")));
  if (snapshot.has("budget_bytes")) {
    memory += " of " + megabytes(static_cast<uint64_t>(snapshot.integer("budget_bytes")));
  }
  Lines lines{cat("supervisor pid ", snapshot.integer("pid")), memory};
  if (const int64_t evicted = snapshot.integer("evicted_pools"); evicted > 0) {
    lines.push_back(cat("pools dropped for memory: ", evicted));
  }
  const auto fallbacks = snapshot.texts("fallbacks");
  if (!fallbacks.empty()) lines.push_back(cat("fallbacks: ", fallbacks.size()));
  for (const std::string& fallback : fallbacks) lines.push_back("  " + printable(fallback));
  return lines;
}

std::string image_source(const Message& model) {
  return model.text("image_source") == "cache" ? "from cache" : model.text("image_source");
}

TextTable models_table(const Message& snapshot) {
  TextTable table{{{"model", 0},
                   {"name", 5},
                   {"MB", 2, true},
                   {"image", 6},
                   {"positions", 6, true},
                   {"sampling", 8},
                   {"writer", 1},
                   {"pid", 3, true},
                   {"restarts", 4, true},
                   {"fingerprint", 7},
                   {"", 1}},
                  {}};
  for (const Message& model : snapshot.objects("models")) {
    table.rows.push_back(
        {printable(model.text("model")), printable(model.text("name")), in_mb(model, "image_bytes"),
         image_source(model), cat(model.integer("positions")), printable(model.text("sampling")),
         model.text("writer_state"), cat(model.integer("writer_pid")),
         cat(model.integer("writer_restarts")), printable(model.text("fingerprint")),
         printable(model.text("last_error"))});
  }
  return table;
}

// "7 (2 leases) 5 (pinned)": the versions that somebody holds, newest first, and the current one.
std::string versions_of(const Message& pool) {
  std::vector<Message> versions = pool.objects("versions");
  std::ranges::sort(versions, std::ranges::greater(),
                    [](const Message& version) { return version.integer("version"); });
  std::string text;
  for (const Message& version : versions) {
    std::string why;
    if (version.integer("leases") > 0) why = cat(version.integer("leases"), " leased");
    if (version.flag("pinned")) why += why.empty() ? "pinned" : ", pinned";
    const std::string number = cat(version.integer("version"));
    text += cat(text.empty() ? "" : " ", number, why.empty() ? "" : "(" + why + ")");
  }
  return text;
}

TextTable pools_table(const Message& snapshot) {
  TextTable table{{{"pool", 0},
                   {"model", 6},
                   {"version", 0, true},
                   {"tokens", 2, true},
                   {"codec", 5},
                   {"MB", 1, true},
                   {"bits/element", 9, true},
                   {"segments", 8, true},
                   {"widened", 10, true},
                   {"leases", 3, true},
                   {"idle s", 7, true},
                   {"prefill", 11},
                   {"versions", 4}},
                  {}};
  for (const Message& pool : snapshot.objects("pools")) {
    table.rows.push_back({printable(pool.text("pool")), printable(pool.text("model")),
                          cat(pool.integer("version")), cat(pool.integer("tokens")),
                          printable(pool.text("codec")), in_mb(pool, "bytes"),
                          fixed(pool.number("bits_per_element"), 3), cat(pool.integer("segments")),
                          cat(pool.integer("widened_planes")), cat(pool.integer("leases")),
                          fixed(pool.number("idle_seconds"), 0), printable(pool.text("precision")),
                          versions_of(pool)});
  }
  return table;
}

std::string rate_of(const Message& agent, const ViewNotes& notes) {
  double rate = agent.number("tokens_per_s");
  const auto counted = notes.tokens_per_s.find(agent.text("agent"));
  if (rate == 0 && counted != notes.tokens_per_s.end()) rate = counted->second;
  return rate == 0 ? "-" : fixed(rate, 1);
}

// "3/15": taken, of all.
std::string lanes_of(const Message& agent) {
  return cat(agent.integer("running"), "/", agent.integer("lanes"));
}

TextTable agents_table(const Message& snapshot, const ViewNotes& notes) {
  TextTable table{{{"agent", 0},
                   {"pid", 2, true},
                   {"state", 0},
                   {"lanes", 2},
                   {"model", 8},
                   {"pool", 5},
                   {"version", 4, true},
                   {"tokens/s", 1, true},
                   {"private MB", 1, true},
                   {"tokens", 6, true},
                   {"restarts", 7, true},
                   {"kernel", 9},
                   {"", 3}},
                  {}};
  for (const Message& agent : snapshot.objects("agents")) {
    table.rows.push_back({printable(agent.text("agent")), cat(agent.integer("pid")),
                          agent.text("state"), lanes_of(agent), printable(agent.text("model")),
                          printable(agent.text("pool")), cat(agent.integer("version")),
                          rate_of(agent, notes), in_mb(agent, "private_bytes"),
                          cat(agent.integer("tokens")), cat(agent.integer("restarts")),
                          printable(agent.text("kernel")), printable(agent.text("last_error"))});
  }
  return table;
}

}  // namespace

std::vector<std::string> status_lines(const Message& snapshot, const ViewNotes& notes,
                                      size_t columns) {
  Lines lines = head(snapshot);
  for (const TextTable& table :
       {models_table(snapshot), pools_table(snapshot), agents_table(snapshot, notes)}) {
    lines.emplace_back();
    if (table.rows.empty()) {
      lines.push_back(cat("no ", table.columns.front().title, "s"));
    } else {
      add(lines, table_lines(table, columns));
    }
  }
  if (!notes.events.empty()) lines.emplace_back();
  for (const std::string& event : notes.events) lines.push_back(printable(event));
  for (std::string& line : lines) line = cut(line, columns);
  return lines;
}

std::map<std::string, double> rates_between(const Message& before, const Message& after,
                                            double seconds) {
  std::map<std::string, int64_t> counts;
  for (const Message& agent : before.objects("agents")) {
    counts[cat(agent.text("agent"), ' ', agent.integer("pid"))] = agent.integer("tokens");
  }
  std::map<std::string, double> rates;
  for (const Message& agent : after.objects("agents")) {
    const auto count = counts.find(cat(agent.text("agent"), ' ', agent.integer("pid")));
    if (count == counts.end() || seconds <= 0) continue;
    const auto more = static_cast<double>(agent.integer("tokens") - count->second);
    if (more > 0) rates[agent.text("agent")] = more / seconds;
  }
  return rates;
}

std::string event_line(const Message& event) {
  const std::string type = event.type();
  const std::string pool = event.text("pool");
  if (type == "agent_born") {
    return cat("agent ", event.text("agent"), " (pid ", event.integer("pid"), ") is born on pool ",
               pool, " version ", event.integer("version"));
  }
  if (type == "agent_ended") {
    return cat("agent ", event.text("agent"), " (pid ", event.integer("pid"),
               ") ended: ", event.text("story"));
  }
  if (type == "pool_ready") return cat("pool ", pool, " version ", event.integer("version"));
  if (type == "committed") {
    return cat("pool ", pool, " version ", event.integer("version"), ": a turn of agent ",
               event.text("agent"));
  }
  if (type == "pool_dropped") return cat("pool ", pool, " dropped: ", event.text("reason"));
  return "";
}

}  // namespace polykv
