// How much shared memory the runtime may still take, and who holds what it has.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "launch/leases.h"
#include "launch/model_slot.h"

namespace polykv {

class Budget {
 public:
  // bytes: of all models and pools together; nullopt = no limit of our own.
  Budget(std::optional<uint64_t> bytes, const Models& models, const Leases& leases)
      : bytes_(bytes), models_(models), leases_(leases) {}

  std::optional<uint64_t> bytes() const { return bytes_; }
  std::optional<uint64_t> left() const;
  // For a refusal: "model image 80.1 MB, pool main 24.0 MB in 2 version(s) (held by a01)".
  std::string holders() const;

 private:
  std::optional<uint64_t> bytes_;
  const Models& models_;
  const Leases& leases_;
};

}  // namespace polykv
