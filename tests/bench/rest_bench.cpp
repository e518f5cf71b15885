// What a step does besides products and attention, for all layers of a 135M model and one token.
#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "ipc/codec.h"
#include "model/kernels.h"
#include "model/rope.h"
#include "model/sampler.h"

namespace polykv::bench {
namespace {

constexpr uint32_t kLayers = 30, kWidth = 576, kFeedForward = 1536, kHeads = 9, kHeadDim = 64;

std::vector<float> numbers(size_t n, float size) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, size);
  std::vector<float> x(n);
  for (float& v : x) v = normal(random);
  return x;
}

void norms(benchmark::State& state) {
  const auto x = numbers(kWidth, 1);
  std::vector<float> out(kWidth);
  for (auto _ : state) {
    for (uint32_t i = 0; i < 2 * kLayers + 1; ++i) {
      rms_norm(x.data(), x.data(), kWidth, 1e-5f, out.data());
      benchmark::DoNotOptimize(out.data());
    }
  }
}
BENCHMARK(norms)->Unit(benchmark::kMicrosecond);

void activation(benchmark::State& state) {
  const Kernels kernels = choose_kernels()->set;
  const auto up = numbers(kFeedForward, 1);
  auto gate = up;
  for (auto _ : state) {
    for (uint32_t i = 0; i < kLayers; ++i) {
      gate = up;
      kernels.swiglu(gate.data(), up.data(), kFeedForward);
      benchmark::DoNotOptimize(gate.data());
    }
  }
}
BENCHMARK(activation)->Unit(benchmark::kMicrosecond);

void quantise(benchmark::State& state) {
  const Kernels kernels = choose_kernels()->set;
  const auto x = numbers(kFeedForward, 1);
  const ActivationBuffer buffer(1, kFeedForward);
  for (auto _ : state) {
    for (uint32_t i = 0; i < kLayers; ++i) {
      for (const uint32_t cols : {kWidth, kWidth, kWidth, kFeedForward}) {
        kernels.quantise(buffer.of(x.data(), 1, cols), 0, 1);
      }
    }
  }
}
BENCHMARK(quantise)->Unit(benchmark::kMicrosecond);

// Queries to a pool of one span with two parts, and to the suffix.
void rotations(benchmark::State& state) {
  ModelConfig config{};
  config.head_dim = kHeadDim;
  config.rope_base = 1e5f;
  config.rope_interleaved = 1;
  const Rope rope(config);
  auto x = numbers(kHeads * kHeadDim, 1);
  std::vector<float> cos(kHeadDim / 2), sin(cos);
  for (auto _ : state) {
    rope.angles(4096, cos.data(), sin.data());
    for (uint32_t i = 0; i < 3 * kLayers; ++i) rope.apply(x.data(), kHeads, cos.data(), sin.data());
    for (uint32_t i = 0; i < 2 * 2 * kLayers * kHeads; ++i) hadamard(x.data(), kHeadDim);
    benchmark::DoNotOptimize(x.data());
  }
}
BENCHMARK(rotations)->Unit(benchmark::kMicrosecond);

void sample(benchmark::State& state) {
  const auto n = static_cast<size_t>(state.range(0));
  SamplingOptions options;
  if (state.range(1) == 1) options = {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f};
  if (state.range(1) == 2) options = {.temperature = 0.8f, .top_p = 0.95f};
  if (state.range(1) == 3) options = {.temperature = 0.8f};
  Sampler sampler(options);
  auto logits = numbers(n, 4);
  for (auto _ : state) benchmark::DoNotOptimize(sampler.pick(logits, {}));
}
BENCHMARK(sample)
    ->ArgNames({"vocabulary", "how"})
    ->ArgsProduct({{49152, 262144}, {0, 1, 2, 3}})
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace polykv::bench
