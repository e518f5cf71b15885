// Pages of its own, not the allocator's: what is dropped is free at once, what is unused costs
// nothing.
#include "agents/suffix.h"

#include <sys/mman.h>

#include <algorithm>
#include <utility>

namespace polykv {

namespace {

bool is_reference(const Span& span) {
  const CodecSpec codec = span.segment.codec();
  const auto is_plain = [](PlaneCodec of) {
    return of == PlaneCodec::f32 || of == PlaneCodec::f16;
  };
  return is_plain(codec.k) || is_plain(codec.v);
}

}  // namespace

Suffix::Suffix(const ModelConfig& config, const Layout& layout)
    : config_(config),
      codec_(std::ranges::any_of(layout.spans, is_reference) ? PlaneCodec::f32 : PlaneCodec::f16) {}

void Suffix::Unmap::operator()(std::byte* pages) const { ::munmap(pages, bytes); }

Result<Suffix::Pages> Suffix::pages(size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return fail(ErrorCode::memory_limit,
                cat("no memory is left for ", bytes,
                    " bytes of private keys and values: ask for "
                    "fewer tokens"),
                cat(bytes));
  }
  return Pages(static_cast<std::byte*>(memory), Unmap{bytes});
}

// From planes of room_ rows to planes of `room` rows.
Status Suffix::move_rows(Pages& rows, uint32_t n_kept, uint32_t room) const {
  if (n_kept == 0) rows.reset();
  auto moved = pages(plane_bytes(room) * n_planes());
  if (!moved) return pass(moved);
  for (size_t plane = 0; plane < n_planes() && n_kept > 0; ++plane) {
    std::copy_n(rows.get() + plane * plane_bytes(room_), plane_bytes(n_kept),
                moved->get() + plane * plane_bytes(room));
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

void Suffix::put(PlaneKind kind, uint32_t layer, uint32_t head, uint32_t row, const float* x,
                 ToHalves to_halves) const {
  std::byte* to = at(kind, layer, head) + plane_bytes(row);
  if (codec_ == PlaneCodec::f16) {
    to_halves(x, config_.head_dim, reinterpret_cast<uint16_t*>(to));
  } else {
    std::copy_n(x, config_.head_dim, reinterpret_cast<float*>(to));
  }
}

PlaneView Suffix::plane(PlaneKind kind, uint32_t layer, uint32_t head, uint32_t n_rows) const {
  return plane_view(shape(kind, n_rows), 0, at(kind, layer, head));
}

}  // namespace polykv
