// Completing and checking a deployment.
#include "launch/deployment.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <set>

#include "ipc/codec.h"
#include "ipc/isa.h"
#include "ipc/log.h"
#include "ipc/process.h"

namespace polykv {
namespace {

constexpr size_t kNameBytesMax = 64;

void make_absolute(std::string& path) {
  if (!path.empty() && path != "-" && path != kNoWriter)
    path = std::filesystem::absolute(path).string();
}

std::unexpected<Error> wrong(const std::string& sentence, const std::string& value = {},
                             const std::string& limit = {}) {
  return fail(ErrorCode::usage, sentence, value, limit);
}

Status check_name(const char* what, const std::string& name) {
  if (!name.empty() && name.size() <= kNameBytesMax) return {};
  return wrong(cat("the ", what, " name '", name, "' has ", name.size(), " bytes: from 1 to ",
                   kNameBytesMax, " are taken"),
               name, cat(kNameBytesMax));
}

Status check_models(const std::vector<ModelEntry>& models) {
  if (models.empty())
    return wrong("no model: name its file with --model, or as [[model]] in the file");
  std::set<std::string> names;
  for (const ModelEntry& model : models) {
    if (auto good = check_name("model", model.name); !good) return good;
    if (model.file.empty()) return wrong(cat("model '", model.name, "' has no file"));
    if (!names.insert(model.name).second) {
      return wrong(
          cat("two models are called '", model.name, "': tell them apart with --model NAME=FILE"),
          model.name);
    }
  }
  return {};
}

Status check_pool(const PoolEntry& pool, const Deployment& deployment) {
  if (auto good = check_name("pool", pool.name); !good) return good;
  if (auto codec = parse_codec(pool.codec); !codec) return pass(codec);
  const bool known = std::ranges::any_of(
      deployment.models, [&](const ModelEntry& model) { return model.name == pool.model; });
  if (!known) {
    return wrong(cat("pool '", pool.name, "' wants model '", pool.model, "', which is not there"),
                 pool.model);
  }
  if (pool.agents > 0 && pool.context.empty()) {
    return fail(ErrorCode::bad_agent_count,
                cat("cannot start ", pool.agents, " agents over pool '", pool.name,
                    "': it has no --context yet"),
                cat(pool.agents), "0");
  }
  return {};
}

Status check_agents(const Deployment& deployment) {
  int64_t n_agents = 0;
  for (const PoolEntry& pool : deployment.pools) {
    if (pool.agents < 0 || pool.agents > kAgentsMax) n_agents = kAgentsMax;
    n_agents += pool.agents;
  }
  if (n_agents >= 0 && n_agents <= kAgentsMax) return {};
  return fail(
      ErrorCode::bad_agent_count,
      cat("cannot start ", n_agents, " agents: at most ", kAgentsMax, " run in one runtime"),
      cat(n_agents), cat(kAgentsMax));
}

Status check_pools(const Deployment& deployment) {
  std::set<std::pair<std::string, std::string>> names;
  for (const PoolEntry& pool : deployment.pools) {
    if (auto good = check_pool(pool, deployment); !good) return good;
    if (!names.emplace(pool.model, pool.name).second) {
      return wrong(cat("two pools of model '", pool.model, "' are called '", pool.name, "'"),
                   pool.name);
    }
  }
  return check_agents(deployment);
}

}  // namespace

ModelEntry parse_model(std::string_view text) {
  const size_t equals = text.find('=');
  const bool named = equals != text.npos && text.find('/') > equals;
  if (!named) return {.name = "", .file = std::string(text)};
  return {.name = std::string(text.substr(0, equals)),
          .file = std::string(text.substr(equals + 1))};
}

Result<uint64_t> parse_size(std::string_view text) {
  const auto refuse = [&] {
    return wrong(cat("'", text, "' is no size: say it as 500MB, 2GiB or in bytes"),
                 std::string(text), "2^63 bytes");
  };
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string unit(end, text.data() + text.size());
  std::erase(unit, ' ');
  std::ranges::transform(unit, unit.begin(), [](unsigned char c) { return std::tolower(c); });
  if (error != std::errc() || number < 0) return refuse();
  if (!unit.empty() && unit.back() == 'b') unit.pop_back();
  const bool binary = unit.size() == 2 && unit.back() == 'i';
  if (binary) unit.pop_back();
  const size_t power = unit.empty() ? 0 : std::string_view("kmgt").find(unit) + 1;
  if (unit.size() > 1 || (!unit.empty() && power == 0)) return refuse();
  for (size_t i = 0; i < power; ++i) number *= binary ? 1024 : 1000;
  if (!(number < 9.2e18)) return refuse();
  return static_cast<uint64_t>(number);
}

void complete(Deployment& deployment) {
  const std::string here = program_directory();
  if (deployment.writer.empty()) deployment.writer = here + "/polykv-writer";
  if (deployment.agent_program.empty()) deployment.agent_program = here + "/polykv-agent";
  for (std::string* path : {&deployment.runtime, &deployment.writer, &deployment.agent_program,
                            &deployment.image_cache}) {
    make_absolute(*path);
  }
  for (ModelEntry& model : deployment.models) {
    const bool first = &model == &deployment.models.front();
    if (model.name.empty()) {
      model.name = first ? "main" : std::filesystem::path(model.file).stem().string();
    }
    make_absolute(model.file);
  }
  for (PoolEntry& pool : deployment.pools) {
    if (pool.model.empty() && !deployment.models.empty()) pool.model = deployment.models[0].name;
    for (std::string& path : pool.context) make_absolute(path);
  }
}

Status check_deployment(const Deployment& deployment) {
  if (auto good = check_models(deployment.models); !good) return good;
  if (auto good = check_pools(deployment); !good) return good;
  if (auto good = check_isa(deployment.isa); !good) return good;
  if (auto level = parse_log_level(deployment.log_level); !level) return pass(level);
  if (auto format = parse_log_format(deployment.log_format); !format) return pass(format);
  return {};
}

SupervisorOptions supervisor_options(const Deployment& deployment) {
  SupervisorOptions options;
  for (const ModelEntry& model : deployment.models) {
    options.models.push_back(
        {model.name, model.file, model.chat_format, deployment.writer == kNoWriter});
  }
  options.writer_program = deployment.writer;
  options.agent_program = deployment.agent_program;
  options.image_cache = deployment.image_cache;
  options.writer_threads = static_cast<unsigned>(deployment.writer_threads);
  options.agent_threads = static_cast<unsigned>(deployment.threads.value_or(0));
  options.agent_lanes = static_cast<unsigned>(deployment.lanes);
  for (const PoolEntry& pool : deployment.pools) {
    options.first_agents += static_cast<size_t>(pool.agents);
  }
  if (deployment.budget_bytes > 0) options.budget = deployment.budget_bytes;
  options.isa = deployment.isa;
  return options;
}

}  // namespace polykv
