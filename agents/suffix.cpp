// Pages of its own, not the allocator's: what is dropped is free at once, what is unused costs
// nothing.
#include "agents/suffix.h"

#include <sys/mman.h>

#include <algorithm>
#include <utility>

namespace polykv {

void Suffix::Unmap::operator()(float* pages) const { ::munmap(pages, bytes); }

Result<Suffix::Pages> Suffix::pages(size_t n_floats) {
  const size_t bytes = n_floats * sizeof(float);
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return fail(ErrorCode::memory_limit,
                cat("no memory is left for ", bytes,
                    " bytes of private keys and values: ask for "
                    "fewer tokens"),
                cat(bytes));
  }
  return Pages(static_cast<float*>(memory), Unmap{bytes});
}

// From planes of room_ rows to planes of `room` rows.
Status Suffix::move_rows(Pages& rows, uint32_t n_kept, uint32_t room) const {
  if (n_kept == 0) rows.reset();
  auto moved = pages(floats(room));
  if (!moved) return pass(moved);
  const uint32_t n_planes = config_.n_layers * config_.n_kv_heads;
  for (size_t plane = 0; plane < n_planes && n_kept > 0; ++plane) {
    std::copy_n(rows.get() + plane * room_ * config_.head_dim, size_t{n_kept} * config_.head_dim,
                moved->get() + plane * room * config_.head_dim);
  }
  rows = std::move(*moved);
  return {};
}

Status Suffix::reserve(uint32_t n_kept, uint32_t room) {
  check(n_kept <= n_tokens() && n_kept <= room, "a suffix keeps rows that it has and has room for");
  if (room != room_) {
    Status moved = move_rows(k_, n_kept, room);
    if (moved) moved = move_rows(v_, n_kept, room);
    if (!moved) {
      clear();
      return moved;
    }
    room_ = room;
  }
  tokens_.resize(n_kept);
  tokens_.reserve(room);
  return {};
}

void Suffix::clear() {
  k_.reset();
  v_.reset();
  room_ = 0;
  std::vector<uint32_t>().swap(tokens_);
}

void Suffix::add(std::span<const uint32_t> tokens) {
  check(tokens_.size() + tokens.size() <= room_, "a token lies outside the reserved suffix");
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
}

PlaneView Suffix::plane(PlaneKind kind, uint32_t layer, uint32_t head, uint32_t n_rows) const {
  const Pages& rows = kind == PlaneKind::k ? k_ : v_;
  const PlaneShape shape{kind, PlaneCodec::f32, n_rows, 0, config_.head_dim};
  return plane_view(shape, 0, reinterpret_cast<const std::byte*>(rows.get() + at(layer, head, 0)));
}

}  // namespace polykv
