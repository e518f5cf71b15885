// The private end of one stream: the tokens after the layout's last one, with their K and V. It
// outlives an answer, so that a conversation that goes on computes only what is new.
//
// Rows are f16, which costs less than a thousandth of what the default codec costs. After segments
// of f32 or f16, the references, they are f32.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "ipc/half.h"
#include "ipc/pool.h"
#include "model/config.h"

namespace polykv {

class Suffix {
 public:
  // Of a layout, or of none.
  explicit Suffix(const ModelConfig& config, const Layout& layout = {});

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
  uint64_t bytes() const { return uint64_t{2} * plane_bytes(room_) * n_planes(); }

  // Stores one row, [head_dim]; K after RoPE at absolute positions. REQUIRES: row < room().
  void put(PlaneKind kind, uint32_t layer, uint32_t head, uint32_t row, const float* x,
           ToHalves to_halves) const;
  // The first n_rows rows as readers see planes.
  PlaneView plane(PlaneKind kind, uint32_t layer, uint32_t head, uint32_t n_rows) const;
  // The bytes of rows [begin, end).
  std::span<const std::byte> rows(PlaneKind kind, uint32_t layer, uint32_t head, uint32_t begin,
                                  uint32_t end) const {
    return {at(kind, layer, head) + plane_bytes(begin), plane_bytes(end) - plane_bytes(begin)};
  }

 private:
  struct Unmap {
    size_t bytes;
    void operator()(std::byte* pages) const;
  };
  using Pages = std::unique_ptr<std::byte[], Unmap>;
  static Result<Pages> pages(size_t bytes);
  Status move_rows(Pages& rows, uint32_t n_kept, uint32_t room) const;
  size_t n_planes() const { return size_t{config_.n_layers} * config_.n_kv_heads; }
  PlaneShape shape(PlaneKind kind, uint32_t n_rows) const {
    return {kind, codec_, n_rows, 0, config_.head_dim};
  }
  size_t plane_bytes(uint32_t n_rows) const {
    return plane_layout(shape(PlaneKind::k, n_rows)).bytes;
  }
  std::byte* at(PlaneKind kind, uint32_t layer, uint32_t head) const {
    const Pages& rows = kind == PlaneKind::k ? k_ : v_;
    return rows.get() + (size_t{layer} * config_.n_kv_heads + head) * plane_bytes(room_);
  }

  ModelConfig config_;
  PlaneCodec codec_;
  uint32_t room_ = 0;  // rows
  Pages k_, v_;        // [n_layers, n_kv_heads, room, head_dim]
  std::vector<uint32_t> tokens_;
};

}  // namespace polykv
