// What a runtime is started with: models, first pools, agents, limits. Made from flags, the
// environment and a TOML file (launch/config_file.h), checked here, whichever it came from.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/command_line.h"
#include "ipc/result.h"
#include "launch/supervisor_options.h"

namespace polykv {

struct ModelEntry {
  std::string name;  // "" = the first: "main", the others: their file's name without extension
  std::string file;
  std::string chat_format = {};  // "" = the one that the file's template has
  bool operator==(const ModelEntry&) const = default;
};

struct PoolEntry {
  std::string name = "main";
  std::string model;  // "" = the first
  std::string codec = "k4v4";
  std::vector<std::string> context;  // files, directories, "-"
  int64_t ttl_seconds = 0;           // 0 = for as long as the runtime
  int64_t reserve = 0;               // positions to leave for prompt and answer
  int64_t agents = 0;
  bool operator==(const PoolEntry&) const = default;
};

struct Deployment {
  std::string runtime;
  std::vector<ModelEntry> models;
  std::vector<PoolEntry> pools;
  uint64_t budget_bytes = 0;       // 0 = no limit of our own
  std::optional<int64_t> threads;  // of each agent; not set: its share of the cores
  int64_t lanes = 1;               // of each agent
  int64_t writer_threads = 1;
  std::string isa, writer, agent_program;  // "" = the best; our siblings
  std::string image_cache;                 // directory for packed models; "" = none
  std::string log_level = "info", log_format = "text";
  bool operator==(const Deployment&) const = default;
};

inline constexpr const char* kNoWriter = "none";  // as `writer`: it is started by hand
inline constexpr int64_t kSecondsMax = 1'000'000'000;

// "NAME=FILE" or "FILE". A slash before the '=' makes it part of the file's name.
ModelEntry parse_model(std::string_view text);
// Bytes: "500MB", "2GiB", "1000". Powers of 1000, with an i of 1024. usage error.
Result<uint64_t> parse_size(std::string_view text);

// Fills in what was left out (names, programs) and makes paths absolute: the writer and the agents
// are other processes, and what a path means must not depend on who reads it.
void complete(Deployment& deployment);
// REQUIRES: completed. usage, unknown_codec or bad_agent_count with what is wrong.
Status check_deployment(const Deployment& deployment);

SupervisorOptions supervisor_options(const Deployment& deployment);

}  // namespace polykv
