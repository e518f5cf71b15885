// Memory as the processes share it, and how fast this machine reads it.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <span>
#include <vector>

namespace polykv::bench {

// A memfd of its own, on huge pages where the kernel has any, as images and segments are; filled
// with numbers that a kernel can take for codes and scales.
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

// The best tenth of many times: what a machine does that others use, too.
inline double best_tenth(std::vector<double>& times) {
  const auto at = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 10);
  std::ranges::nth_element(times, at);
  return *at;
}

// Runs work(i) for `units` equal parts of the bytes, one after the other, in turns with plain
// reading of the same parts, and reports GB/s of both and the share. Short parts find gaps between
// other programs' turns; all the bytes together should not fit the caches.
template <class State, class Work>
void compare_with_reading(State& state, std::span<const std::byte> bytes, size_t units,
                          const Work& work) {
  const size_t each = bytes.size() / units;
  std::vector<double> times, reads;
  for (auto _ : state) {
    double all = 0;
    for (size_t i = 0; i < units; ++i) {
      times.push_back(seconds([&] { work(i); }));
      all += times.back();
    }
    state.SetIterationTime(all);
    for (size_t i = 0; i < units; ++i) {
      reads.push_back(seconds([&] { read_all(bytes.subspan(i * each, each)); }));
    }
  }
  const double best = best_tenth(times), best_read = best_tenth(reads);
  state.counters["ms"] = best * 1e3 * static_cast<double>(units);
  state.counters["GB/s"] = static_cast<double>(each) / best / 1e9;
  state.counters["read_GB/s"] = static_cast<double>(each) / best_read / 1e9;
  state.counters["of_read"] = best_read / best;
}

// The rate of `products` multiplications in the time that compare_with_reading() found.
template <class State>
void count_products(State& state, double products) {
  state.counters["GMAC/s"] = products / (state.counters["ms"] * 1e-3) / 1e9;
}

}  // namespace polykv::bench
