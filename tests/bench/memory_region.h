// Memory as the processes share it, and how fast this machine reads it.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <span>

namespace polykv::bench {

// A memfd of its own, filled with numbers that a kernel can take for codes and scales.
class MemoryRegion {
 public:
  explicit MemoryRegion(size_t bytes);
  ~MemoryRegion();
  MemoryRegion(const MemoryRegion&) = delete;
  MemoryRegion& operator=(const MemoryRegion&) = delete;
  std::span<std::byte> bytes() const { return {begin_, size_}; }

 private:
  std::byte* begin_ = nullptr;
  size_t size_ = 0;
};

// Reads all bytes once, as fast as plain loads can.
void read_all(std::span<const std::byte> bytes);

template <class Work>
double seconds(const Work& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Runs `work` in turns with plain reading of the bytes that it reads, and reports the best of both:
// GB/s, and the share of the read bandwidth. Other programs disturb both sides alike.
template <class State, class Work>
void compare_with_reading(State& state, std::span<const std::byte> bytes, double used,
                          const Work& work) {
  double best = 1e9, best_read = 1e9;
  for (auto _ : state) {
    const double took = seconds(work);
    state.SetIterationTime(took);
    best = std::min(best, took);
    best_read = std::min(best_read, seconds([&] { read_all(bytes); }));
  }
  const double rate = used / best, read_rate = static_cast<double>(bytes.size()) / best_read;
  state.counters["best_ms"] = best * 1e3;
  state.counters["GB/s"] = rate / 1e9;
  state.counters["read_GB/s"] = read_rate / 1e9;
  state.counters["of_read"] = rate / read_rate;
}

}  // namespace polykv::bench
