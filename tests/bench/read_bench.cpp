// How fast this machine reads memory that processes share, by one thread and by all.
#include <benchmark/benchmark.h>

#include <barrier>
#include <thread>
#include <vector>

#include "tests/bench/memory_region.h"

namespace polykv::bench {
namespace {

// Each thread reads a part of its own; a time is that of the slowest.
void read_memory(benchmark::State& state) {
  const auto n_threads = static_cast<size_t>(state.range(0));
  const MemoryRegion region(static_cast<size_t>(state.range(1)) << 20);
  const size_t each = region.bytes().size() / n_threads;
  std::vector<double> times;
  const auto n_meet = static_cast<std::ptrdiff_t>(n_threads) + 1;
  std::barrier start(n_meet), end(n_meet);
  bool goes_on = true;
  std::vector<std::jthread> threads;
  for (size_t i = 0; i < n_threads; ++i) {
    threads.emplace_back([&, i] {
      while (start.arrive_and_wait(), goes_on) {
        read_all(region.bytes().subspan(i * each, each));
        end.arrive_and_wait();
      }
    });
  }
  for (auto _ : state) {
    times.push_back(seconds([&] {
      start.arrive_and_wait();
      end.arrive_and_wait();
    }));
    state.SetIterationTime(times.back());
  }
  goes_on = false;
  start.arrive_and_wait();
  state.counters["GB/s"] = static_cast<double>(region.bytes().size()) / best_tenth(times) / 1e9;
}
BENCHMARK(read_memory)
    ->ArgNames({"threads", "MiB"})
    ->Args({1, 100})
    ->Args({1, 400})
    ->Args({2, 100})
    ->Args({2, 400})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace polykv::bench
