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
  std::string image_source;            // "packed", or "cache"; "" as long as there is no image
  std::vector<std::string> fallbacks;  // of its writer
  std::set<std::string> busy_pools;    // being created or appended to
  std::optional<Error> failure;        // it could not be packed: nothing can be asked of it
};

inline constexpr size_t kModelsMax = 100;  // a snapshot lists them all
// usage: none, too many, or names that are bad or taken.
Status check_models(const std::vector<ModelOptions>& models);

class Models {
 public:
  Models(const SupervisorOptions& options, const std::string& runtime);

  // "" = the first. version_gone names those that there are; a model's failure refuses, too.
  Result<ModelSlot*> find(const std::string& name);
  std::vector<std::unique_ptr<ModelSlot>>& all() { return slots_; }
  const std::vector<std::unique_ptr<ModelSlot>>& all() const { return slots_; }

  bool all_failed() const;
  // Of all models together: images, segments, manifests.
  uint64_t held_bytes() const;

 private:
  std::vector<std::unique_ptr<ModelSlot>> slots_;  // never empty
};

}  // namespace polykv
