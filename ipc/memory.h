// Shared memory that nobody can change: create, fill, seal; then map read-only anywhere.
//
//   writer: SharedBuilder::create ─► fill data() ─► seal() ─► fd  ── SCM_RIGHTS ──► others
//   others: SharedView::map(fd): checks seals and size, then maps read-only (Boost.Interprocess)
//
// The host backend is a memfd sealed SHRINK|GROW|WRITE|SEAL: the kernel refuses every later write,
// root's included, and frees the memory when the last fd and mapping are gone. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "ipc/fd.h"
#include "ipc/limits.h"

namespace polykv {

// Memory that is still private to its creator and writable.
class SharedBuilder {
 public:
  // Checks `room`, then reserves `bytes` (> 0) zeroed bytes. `name` shows in /proc/<pid>/maps.
  static Result<SharedBuilder> create(const std::string& name, uint64_t bytes,
                                      const MemoryRoom& room);
  std::span<std::byte> data();  // [bytes]
  // Makes it `bytes` long, not shorter than it is; what is new is zero, and data() moves.
  // memory_limit or io: it is as it was. REQUIRES: check_room was asked, past it the kernel kills.
  Status grow(uint64_t bytes);

  // Unmaps, seals, and returns a read-only fd of the finished memory. The builder is empty after.
  Result<UniqueFd> seal() &&;

  SharedBuilder(SharedBuilder&&) noexcept;
  SharedBuilder& operator=(SharedBuilder&&) noexcept;
  ~SharedBuilder();

 private:
  struct State;
  explicit SharedBuilder(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// A read-only mapping of sealed memory. Keeps its own fd; copies of the view are not allowed.
class SharedView {
 public:
  // bad_segment if a seal is missing or the size is 0 (or not `expected_bytes`, unless that is 0).
  static Result<SharedView> map(UniqueFd fd, uint64_t expected_bytes = 0);

  std::span<const std::byte> data() const;  // [bytes]; valid as long as the view lives
  int fd() const;

  SharedView(SharedView&&) noexcept;
  SharedView& operator=(SharedView&&) noexcept;
  ~SharedView();

 private:
  struct State;
  explicit SharedView(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Copies `bytes` into new sealed memory: for texts, token lists and other small payloads.
Result<UniqueFd> share_bytes(const std::string& name, std::span<const std::byte> bytes,
                             const MemoryRoom& room);

// A read-only reopen of a sealed memfd, to be handed to another process.
Result<UniqueFd> reopen_read_only(int fd);

}  // namespace polykv
