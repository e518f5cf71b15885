// The models of a runtime: each has a writer and pools of its own.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "launch/registry.h"
#include "launch/supervisor_options.h"
#include "launch/writer_link.h"

namespace polykv {

struct ModelSlot {
  ModelSlot(std::string its_name, std::string its_path, WriterLink::Options writer_options)
      : name(std::move(its_name)), path(std::move(its_path)), writer(std::move(writer_options)) {}

  std::string name;
  std::string path;
  WriterLink writer;
  Registry registry;
  std::set<std::string> busy_pools;  // being created or appended to
};

class Models {
 public:
  Models(const SupervisorOptions& options, const std::string& runtime);

  // "" = the first. version_gone names those that there are.
  Result<ModelSlot*> find(const std::string& name);
  std::vector<std::unique_ptr<ModelSlot>>& all() { return slots_; }
  const std::vector<std::unique_ptr<ModelSlot>>& all() const { return slots_; }

  // Of all models together: images, segments, manifests.
  uint64_t held_bytes() const;

 private:
  std::vector<std::unique_ptr<ModelSlot>> slots_;  // never empty
};

}  // namespace polykv
