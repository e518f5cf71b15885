// Finding a model by its name.
#include "launch/model_slot.h"

namespace polykv {

Models::Models(const SupervisorOptions& options, const std::string& runtime) {
  slots_.push_back(
      std::make_unique<ModelSlot>("main", options.model_path,
                                  WriterLink::Options{.program = options.writer_program,
                                                      .runtime = runtime,
                                                      .n_threads = options.writer_threads}));
}

Result<ModelSlot*> Models::find(const std::string& name) {
  if (name.empty()) return slots_.front().get();
  std::string names;
  for (const auto& slot : slots_) {
    if (slot->name == name) return slot.get();
    names += (names.empty() ? "" : ", ") + slot->name;
  }
  return fail(ErrorCode::version_gone,
              cat("there is no model '", name, "' in this runtime; there is ", names), name, names);
}

uint64_t Models::held_bytes() const {
  uint64_t bytes = 0;
  for (const auto& slot : slots_) bytes += slot->registry.held_bytes();
  return bytes;
}

}  // namespace polykv
