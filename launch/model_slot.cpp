// The list of models.
#include "launch/model_slot.h"

#include <algorithm>

#include "launch/pool_requests.h"

namespace polykv {

Models::Models(const SupervisorOptions& options, const std::string& runtime) {
  for (const ModelOptions& model : options.models) {
    const WriterLink::Options writer{.program = options.writer_program,
                                     .runtime = runtime,
                                     .n_threads = options.writer_threads,
                                     .chat_format = model.chat_format,
                                     .image_cache = options.image_cache,
                                     .by_hand = model.writer_by_hand};
    slots_.push_back(std::make_unique<ModelSlot>(model.name, model.path, writer));
  }
}

Result<ModelSlot*> Models::find(const std::string& name) {
  std::string names;
  for (const auto& slot : slots_) {
    if (!name.empty() && slot->name != name) {
      names += (names.empty() ? "" : ", ") + slot->name;
      continue;
    }
    if (slot->failure) return std::unexpected(*slot->failure);
    return slot.get();
  }
  return fail(ErrorCode::version_gone,
              cat("there is no model '", name, "' in this runtime; there is ", names), name, names);
}

bool Models::all_failed() const {
  return std::ranges::all_of(slots_, [](const auto& slot) {
    return slot->failure.has_value() && !slot->writer.by_hand();  // the next one may do better
  });
}

uint64_t Models::held_bytes() const {
  uint64_t bytes = 0;
  for (const auto& slot : slots_) bytes += slot->registry.held_bytes();
  return bytes;
}

Status check_models(const std::vector<ModelOptions>& models) {
  if (models.empty()) return fail(ErrorCode::usage, "a runtime needs a model");
  if (models.size() > kModelsMax) {
    return fail(ErrorCode::usage,
                cat(models.size(), " models are more than a runtime keeps: at most ", kModelsMax),
                cat(models.size()), cat(kModelsMax));
  }
  std::set<std::string> names;
  for (const ModelOptions& model : models) {
    if (auto good = check_name("model", model.name); !good) return good;
    if (names.insert(model.name).second) continue;
    return fail(ErrorCode::usage, cat("two models are called '", model.name, "'"), model.name);
  }
  return {};
}

}  // namespace polykv
