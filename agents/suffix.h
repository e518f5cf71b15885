// The private end of one stream: the tokens after the layout's last one, with their K and V. It
// outlives an answer, so that a conversation that goes on computes only what is new.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "ipc/plane.h"
#include "ipc/result.h"
#include "model/config.h"

namespace polykv {

class Suffix {
 public:
  explicit Suffix(const ModelConfig& config) : config_(config) {}

  // Keeps the first `n_kept` tokens and makes room for exactly `room` in all: the only allocation.
  // Pages that no row has used cost nothing, and what a larger room held goes back to the system.
  // memory_limit leaves nothing behind. REQUIRES: n_kept <= n_tokens() and n_kept <= room.
  Status reserve(uint32_t n_kept, uint32_t room);
  void clear();

  // Counts rows as computed. REQUIRES: room for them.
  void add(std::span<const uint32_t> tokens);
  const std::vector<uint32_t>& tokens() const { return tokens_; }
  uint32_t n_tokens() const { return static_cast<uint32_t>(tokens_.size()); }
  uint32_t room() const { return room_; }
  uint64_t bytes() const { return uint64_t{2} * floats(room_) * sizeof(float); }

  // [head_dim] of one row; K after RoPE at absolute positions. REQUIRES: row < room().
  float* k(uint32_t layer, uint32_t head, uint32_t row) { return k_.get() + at(layer, head, row); }
  float* v(uint32_t layer, uint32_t head, uint32_t row) { return v_.get() + at(layer, head, row); }
  // The first n_rows rows as readers see planes.
  PlaneView plane(PlaneKind kind, uint32_t layer, uint32_t head, uint32_t n_rows) const;

 private:
  struct Unmap {
    size_t bytes;
    void operator()(float* pages) const;
  };
  using Pages = std::unique_ptr<float[], Unmap>;
  static Result<Pages> pages(size_t n_floats);
  Status move_rows(Pages& rows, uint32_t n_kept, uint32_t room) const;
  size_t floats(uint32_t n_rows) const {
    return size_t{config_.n_layers} * config_.n_kv_heads * n_rows * config_.head_dim;
  }
  size_t at(uint32_t layer, uint32_t head, uint32_t row) const {
    return ((size_t{layer} * config_.n_kv_heads + head) * room_ + row) * config_.head_dim;
  }

  ModelConfig config_;
  uint32_t room_ = 0;  // rows
  Pages k_, v_;        // [n_layers, n_kv_heads, room, head_dim]
  std::vector<uint32_t> tokens_;
};

}  // namespace polykv
