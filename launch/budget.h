// How much shared memory the runtime may still take, and who holds what it has.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "launch/leases.h"
#include "launch/model_slot.h"

namespace polykv {

class Budget {
 public:
  // bytes: of all models and pools together; nullopt = no limit of our own.
  Budget(std::optional<uint64_t> bytes, const Models& models, const Leases& leases)
      : bytes_(bytes), models_(models), leases_(leases) {}

  std::optional<uint64_t> bytes() const { return bytes_; }
  // What is neither held nor promised to a segment that is being made.
  std::optional<uint64_t> left() const;
  uint64_t promised() const { return promised_; }
  // For a refusal: "model image 80.1 MB, pool main 24.0 MB in 2 version(s), pinned: 1 (held by
  // a01)".
  std::string holders() const;

 private:
  friend class Reservation;
  std::optional<uint64_t> bytes_;
  const Models& models_;
  const Leases& leases_;
  uint64_t promised_ = 0;
};

// Memory that is promised to a segment which is being made; given back by the destructor.
class Reservation {
 public:
  Reservation() = default;
  Reservation(Budget& budget, uint64_t bytes) : budget_(&budget), bytes_(bytes) {
    budget.promised_ += bytes;
  }
  Reservation(Reservation&& other) noexcept
      : budget_(std::exchange(other.budget_, nullptr)), bytes_(other.bytes_) {}
  Reservation& operator=(Reservation&& other) noexcept {
    std::swap(budget_, other.budget_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Reservation() {
    if (budget_ != nullptr) budget_->promised_ -= bytes_;
  }

  uint64_t bytes() const { return budget_ == nullptr ? 0 : bytes_; }

 private:
  Budget* budget_ = nullptr;
  uint64_t bytes_ = 0;
};

}  // namespace polykv
