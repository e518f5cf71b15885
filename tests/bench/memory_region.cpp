// A memfd on huge pages, and plain reading.
#include "tests/bench/memory_region.h"

#include <benchmark/benchmark.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace polykv::bench {

namespace {

constexpr size_t kHugePage = size_t{2} << 20;

// Puts huge pages under memory that has been filled, as ipc/memory.cpp does; a kernel without any
// leaves it as it is.
void use_huge_pages(std::byte* memory, size_t bytes) {
#ifdef MADV_COLLAPSE
  constexpr int kCollapse = MADV_COLLAPSE;
#else
  constexpr int kCollapse = 25;  // Linux 6.1; older headers lack the name
#endif
  for (size_t at = 0; at + kHugePage <= bytes; at += kHugePage) {
    if (madvise(memory + at, kHugePage, kCollapse) != 0) return;
  }
}

// An address at which huge pages of a file can be mapped as such, or nullptr.
void* huge_page_address(size_t bytes) {
  const size_t with_room = bytes + kHugePage;
  void* free = mmap(nullptr, with_room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (free == MAP_FAILED) return nullptr;
  munmap(free, with_room);
  const size_t past = reinterpret_cast<uintptr_t>(free) % kHugePage;
  return static_cast<std::byte*>(free) + (kHugePage - past) % kHugePage;
}

}  // namespace

MemoryRegion::MemoryRegion(size_t bytes) : size_(bytes) {
  const int fd = memfd_create("polykv-bench", MFD_CLOEXEC);
  void* at = MAP_FAILED;
  if (fd >= 0 && ftruncate(fd, static_cast<off_t>(bytes)) == 0) {
    at = mmap(huge_page_address(bytes), bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  if (fd >= 0) close(fd);
  if (at == MAP_FAILED) {
    std::perror("no memory for the benchmark");
    std::exit(1);
  }
  begin_ = static_cast<std::byte*>(at);
  uint32_t state = 1;
  for (size_t i = 0; i < bytes; ++i) {
    state = state * 1664525u + 1013904223u;
    begin_[i] = static_cast<std::byte>(state >> 24 & 0x3f);  // as f16: small and finite
  }
  use_huge_pages(begin_, bytes);
}

MemoryRegion::~MemoryRegion() { munmap(begin_, size_); }

#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
static uint64_t
add_up(const uint64_t* x, size_t n) {
  uint64_t sum[64] = {};
  for (size_t i = 0; i + 64 <= n; i += 64) {
    for (size_t j = 0; j < 64; ++j) sum[j] += x[i + j];
  }
  for (size_t j = 1; j < 64; ++j) sum[0] += sum[j];
  return sum[0];
}

void read_all(std::span<const std::byte> bytes) {
  benchmark::DoNotOptimize(
      add_up(reinterpret_cast<const uint64_t*>(bytes.data()), bytes.size() / sizeof(uint64_t)));
}

}  // namespace polykv::bench
