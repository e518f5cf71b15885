// The only user of toml++.
#include "launch/config_file.h"

#include <toml++/toml.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <iterator>
#include <optional>

namespace polykv {
namespace {

// One table of the file: takes the keys that are known and complains of all others. The first
// complaint stays.
class Section {
 public:
  Section(const toml::table& table, std::string file, std::string where,
          std::optional<Error>& error)
      : table_(table), file_(std::move(file)), where_(std::move(where)), error_(error) {}

  void text(const std::string& key, std::string& value) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    if (!node->is_string()) return complain(*node, key, "text in quotes");
    value = **node->as_string();
  }

  void path(const std::string& key, std::string& value) {
    const std::string before = value;
    text(key, value);
    if (value != before) value = resolved(value);
  }

  void integer(const std::string& key, int64_t& value, int64_t low, int64_t high) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    const auto number = node->value_exact<int64_t>();
    if (!number || *number < low || *number > high) {
      return complain(*node, key, cat("a whole number from ", low, " to ", high));
    }
    value = *number;
  }

  void integer(const std::string& key, std::optional<int64_t>& value, int64_t low, int64_t high) {
    if (!table_.contains(key)) return known_.push_back(key);
    integer(key, value.emplace(0), low, high);
  }

  void size(const std::string& key, uint64_t& value) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    const auto number = node->value_exact<int64_t>();
    const auto words =
        parse_size(number ? cat(*number) : node->value_exact<std::string>().value_or("-"));
    if (!words) return complain(*node, key, "a size such as \"500MB\", or bytes");
    value = *words;
  }

  // One text, or a list of them.
  void paths(const std::string& key, std::vector<std::string>& values) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    values.clear();
    if (node->is_string()) return values.push_back(resolved(**node->as_string()));
    const toml::array* list = node->as_array();
    if (list == nullptr) return complain(*node, key, "a path in quotes, or a list of them");
    for (const toml::node& item : *list) {
      if (!item.is_string()) return complain(item, key, "a list of paths in quotes");
      values.push_back(resolved(**item.as_string()));
    }
  }

  // [[key]]: calls `read` for each.
  void sections(const std::string& key, const std::function<void(Section&)>& read) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    const toml::array* list = node->as_array();
    if (list == nullptr || !list->is_array_of_tables()) {
      return complain(*node, key, cat("tables, each under [[", key, "]]"));
    }
    for (const toml::node& item : *list) {
      Section section(*item.as_table(), file_, cat("[[", key, "]] "), error_);
      read(section);
      section.refuse_others();
    }
  }

  void refuse_others() {
    for (const auto& [key, node] : table_) {
      if (std::ranges::find(known_, key.str()) != known_.end()) continue;
      std::string choices;
      for (const std::string& known : known_) choices += (choices.empty() ? "" : ", ") + known;
      report(node, cat("there is no key '", where_, key.str(), "': the keys are ", choices),
             std::string(key.str()), choices);
    }
  }

 private:
  const toml::node* find(const std::string& key) {
    known_.push_back(key);
    return table_.get(key);
  }

  std::string resolved(const std::string& path) const {
    if (path.empty() || path == "-" || path == kNoWriter) return path;
    return (std::filesystem::path(file_).parent_path() / path).string();
  }

  void complain(const toml::node& node, const std::string& key, const std::string& wanted) {
    std::ostringstream value;
    node.visit([&](const auto& typed) { value << typed; });
    report(node, cat("'", where_, key, "' is ", value.str(), ", wanted ", wanted), value.str(),
           wanted);
  }

  void report(const toml::node& node, const std::string& sentence, const std::string& value,
              const std::string& limit) {
    if (error_) return;
    error_ = Error{ErrorCode::usage, cat(file_, ":", node.source().begin.line, ": ", sentence),
                   value, limit};
  }

  const toml::table& table_;
  std::string file_, where_;
  std::optional<Error>& error_;
  std::vector<std::string> known_;
};

void read_model(Section& section, std::vector<ModelEntry>& models) {
  ModelEntry model;
  section.text("name", model.name);
  section.path("file", model.file);
  section.text("chat-format", model.chat_format);
  models.push_back(model);
}

void read_pool(Section& section, std::vector<PoolEntry>& pools) {
  PoolEntry pool;
  section.text("name", pool.name);
  section.text("model", pool.model);
  section.text("codec", pool.codec);
  section.paths("context", pool.context);
  section.integer("ttl", pool.ttl_seconds, 0, kSecondsMax);
  section.integer("reserve", pool.reserve, 0, INT32_MAX - 1);
  section.integer("agents", pool.agents, 0, kAgentsMax);
  pools.push_back(pool);
}

void read_all(Section& file, Deployment& deployment) {
  file.path("runtime", deployment.runtime);
  file.size("budget", deployment.budget_bytes);
  file.integer("threads", deployment.threads, 1, kThreadsMax);
  file.integer("lanes", deployment.lanes, 1, kLanesMax);
  file.integer("writer-threads", deployment.writer_threads, 1, kThreadsMax);
  file.text("isa", deployment.isa);
  file.path("writer", deployment.writer);
  file.path("agent-program", deployment.agent_program);
  file.path("image-cache", deployment.image_cache);
  file.text("log-level", deployment.log_level);
  file.text("log-format", deployment.log_format);
  file.sections("model", [&](Section& section) { read_model(section, deployment.models); });
  file.sections("pool", [&](Section& section) { read_pool(section, deployment.pools); });
  file.refuse_others();
}

Result<toml::table> parse_file(const std::string& path) {
  try {
    return toml::parse_file(path);
  } catch (const toml::parse_error& error) {
    const auto line = error.source().begin.line;
    const std::string where = line == 0 ? path : cat(path, ":", line);
    return fail(ErrorCode::usage, cat(where, ": ", error.description()), path);
  }
}

toml::table table_of(const ModelEntry& model) {
  return toml::table{
      {"name", model.name}, {"file", model.file}, {"chat-format", model.chat_format}};
}

toml::table table_of(const PoolEntry& pool) {
  toml::array context;
  for (const std::string& path : pool.context) context.push_back(path);
  return toml::table{{"name", pool.name},       {"model", pool.model},
                     {"codec", pool.codec},     {"context", std::move(context)},
                     {"ttl", pool.ttl_seconds}, {"reserve", pool.reserve},
                     {"agents", pool.agents}};
}

template <class Entry>
toml::array array_of(const std::vector<Entry>& entries) {
  toml::array list;
  for (const Entry& entry : entries) list.push_back(table_of(entry));
  return list;
}

}  // namespace

Result<Deployment> read_config(const std::string& path, Deployment base) {
  std::error_code missing;
  const std::string absolute = std::filesystem::absolute(path, missing).string();
  auto table = parse_file(absolute);
  if (!table) return pass(table);
  std::optional<Error> error;
  Section file(*table, absolute, "", error);
  read_all(file, base);
  if (error) return std::unexpected(*error);
  return base;
}

std::string print_config(const Deployment& deployment) {
  toml::table file{{"runtime", deployment.runtime},
                   {"budget", static_cast<int64_t>(deployment.budget_bytes)},
                   {"lanes", deployment.lanes},
                   {"writer-threads", deployment.writer_threads},
                   {"isa", deployment.isa},
                   {"writer", deployment.writer},
                   {"agent-program", deployment.agent_program},
                   {"image-cache", deployment.image_cache},
                   {"log-level", deployment.log_level},
                   {"log-format", deployment.log_format}};
  if (deployment.threads) file.insert("threads", *deployment.threads);
  if (!deployment.models.empty()) file.insert("model", array_of(deployment.models));
  if (!deployment.pools.empty()) file.insert("pool", array_of(deployment.pools));
  std::ostringstream out;
  if (!deployment.threads) out << "# threads is not set: each agent gets its share of the cores\n";
  out << toml::toml_formatter(file) << '\n';
  return out.str();
}

}  // namespace polykv
