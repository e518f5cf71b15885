// Fork, drop, pin, unpin.
#include "launch/pool_requests.h"

#include <algorithm>

namespace polykv {
namespace {

constexpr size_t kNameMax = 64;

uint64_t kv_elements(const Version& version) {
  uint64_t elements = 0;
  for (const auto& segment : version.segments) elements += segment->view.elements();
  return elements;
}

double bits_per_element(const Version& version) {
  return static_cast<double>(version.bytes()) * 8 / static_cast<double>(kv_elements(version));
}

// Planes of K that were too hard for the pool's codec.
uint64_t widened_planes(const Version& version) {
  uint64_t planes = 0;
  for (const auto& segment : version.segments) planes += segment->view.wide_planes().size();
  return planes;
}

// How its segments were prefilled, each way once; "" where none was, or no writer said.
std::string precision_of(const Version& version) {
  constexpr size_t kMost = 1024;  // docs/protocol.md
  std::string all;
  std::set<std::string> said{""};
  for (const auto& segment : version.segments) {
    if (!said.insert(segment->precision).second) continue;
    if (all.size() + segment->precision.size() + 2 > kMost) break;
    all += cat(all.empty() ? "" : "; ", segment->precision);
  }
  return all;
}

uint64_t wanted_version(const Message& request) {
  return static_cast<uint64_t>(request.integer("version"));
}

}  // namespace

Status check_name(const char* what, const std::string& name) {
  const bool good = std::ranges::all_of(name, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '_' || c == '.';
  });
  if (good && !name.empty() && name.size() <= kNameMax) return {};
  return fail(ErrorCode::usage,
              cat(what, " name '", name, "' may hold letters, digits, '-', '_' and '.' only, 1 to ",
                  kNameMax, " of them"),
              name, cat(kNameMax));
}

Status check_new_pool(const Registry& registry, const std::string& name) {
  if (auto named = check_name("pool", name); !named) return named;
  if (registry.find(name) == nullptr) return {};
  return fail(ErrorCode::usage,
              cat("pool '", name, "' exists already: append to it, or choose another name"), name);
}

Status check_not_busy(const std::set<std::string>& busy, const std::string& pool) {
  if (!busy.contains(pool)) return {};
  return fail(ErrorCode::usage,
              cat("pool '", pool, "' is being written already: ask again when it is ready"), pool);
}

Message pool_ready(const std::string& pool, const Version& version) {
  Message ready("pool_ready");
  ready.set("pool", pool).set("version", version.number);
  ready.set("tokens", version.n_tokens()).set("bytes", version.bytes());
  ready.set("bits_per_element", bits_per_element(version)).set("elements", kv_elements(version));
  ready.set("segments", version.segments.size()).set("widened_planes", widened_planes(version));
  if (const auto precision = precision_of(version); !precision.empty()) {
    ready.set("precision", precision);
  }
  return ready.set("prefill_tokens", 0).set("prefill_seconds", 0.0);
}

Message pool_status(const std::string& model, const Pool& pool,
                    const std::map<const Version*, uint64_t>& leases) {
  const Version& current = *pool.current;
  std::vector<Message> versions;
  uint64_t all_leases = 0;
  const auto add = [&](const Version& version) {
    const auto held = leases.find(&version);
    const uint64_t count = held == leases.end() ? 0 : held->second;
    Message status("version_status");
    status.set("version", version.number).set("tokens", version.n_tokens());
    status.set("leases", count).set("pinned", pool.pinned.contains(version.number));
    versions.push_back(std::move(status));
    all_leases += count;
  };
  for (const auto& earlier : pool.earlier) {
    if (const auto version = earlier.lock()) add(*version);
  }
  add(current);
  Message status("pool_status");
  status.set("pool", pool.name).set("model", model).set("version", current.number);
  status.set("codec", codec_name(pool.codec)).set("tokens", current.n_tokens());
  status.set("bytes", current.bytes()).set("segments", current.segments.size());
  status.set("bits_per_element", bits_per_element(current)).set("leases", all_leases);
  status.set("widened_planes", widened_planes(current)).set("precision", precision_of(current));
  return status.set("idle_seconds", 0.0).set("versions", versions);
}

Result<Message> fork_pool(Registry& registry, const std::set<std::string>& busy,
                          const MemoryRoom& room, const Message& request) {
  const std::string to = request.text("to");
  if (auto fresh = check_new_pool(registry, to); !fresh) return pass(fresh);
  if (auto free = check_not_busy(busy, to); !free) return pass(free);
  auto version = registry.fork(request.text("pool"), wanted_version(request), to, room);
  if (!version) return pass(version);
  return pool_ready(to, **version);
}

Status drop_pool(Registry& registry, const std::set<std::string>& busy, const std::string& pool) {
  if (auto free = check_not_busy(busy, pool); !free) return free;
  return registry.drop(pool);
}

Result<Message> pin_pool(Registry& registry, const Message& request) {
  const std::string pool = request.text("pool");
  const uint64_t number = wanted_version(request);
  const auto exact =
      request.type() == "pool_pin" ? registry.pin(pool, number) : registry.unpin(pool, number);
  if (!exact) return pass(exact);
  return Message("ok").set("version", *exact);
}

}  // namespace polykv
