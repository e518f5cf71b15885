// Products with packed weights: the matrices of a whole 135M model, one after the other.
#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "model/image_plan.h"
#include "model/kernels.h"
#include "tests/bench/memory_region.h"

namespace polykv::bench {
namespace {

struct Form {
  const char* name;
  WeightType type;
  uint32_t block, has_min;
};
constexpr Form kForms[] = {{"w4", WeightType::w4, 32, 1},
                           {"w8", WeightType::w8, 32, 0},
                           {"w8_16", WeightType::w8, 16, 0},
                           {"f16", WeightType::f16, 0, 0}};

// A layer of SmolLM2-135M: outputs, inputs.
constexpr std::pair<uint32_t, uint32_t> kLayer[] = {
    {576, 576}, {192, 576}, {192, 576}, {576, 576}, {1536, 576}, {1536, 576}, {576, 1536}};
constexpr uint32_t kLayers = 30;

// All layers' matrices in one memfd.
struct Matrices {
  std::vector<Weight> weights;
  MemoryRegion region;

  static size_t bytes_of(const Weight& w) {
    const auto bytes = *weight_bytes(w);
    return image_align(bytes.values) + image_align(bytes.scales);
  }
  static std::vector<Weight> shapes(const Form& form) {
    std::vector<Weight> all;
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      for (const auto& [rows, cols] : kLayer) {
        all.push_back({form.type, rows, cols, form.block, form.has_min, nullptr, nullptr});
      }
    }
    return all;
  }
  static size_t all_bytes(const std::vector<Weight>& all) {
    size_t bytes = 0;
    for (const Weight& w : all) bytes += bytes_of(w);
    return bytes;
  }
  explicit Matrices(const Form& form) : weights(shapes(form)), region(all_bytes(weights)) {
    std::byte* at = region.bytes().data();
    for (Weight& w : weights) {
      w.values = at;
      w.scales = reinterpret_cast<const uint16_t*>(at + image_align(weight_bytes(w)->values));
      at += bytes_of(w);
    }
  }
};

void multiply(benchmark::State& state, const Form& form, const Kernels& set) {
  const Matrices matrices(form);
  const auto n = static_cast<uint32_t>(state.range(0));
  constexpr uint32_t kWidest = 1536;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> x(size_t{n} * kWidest), y(x.size()), scratch(matmul_scratch_floats(kWidest));
  for (float& v : x) v = normal(random);
  const ActivationBuffer buffer(n, kWidest);
  const size_t in_layer = matrices.weights.size() / kLayers;
  compare_with_reading(state, matrices.region.bytes(), kLayers, [&](size_t layer) {
    for (size_t i = layer * in_layer; i < (layer + 1) * in_layer; ++i) {
      const Weight& w = matrices.weights[i];
      const Activations in = buffer.of(x.data(), n, w.n_cols);
      set.quantise(in, 0, n);
      set.matmul(w, in, 0, w.n_rows, y.data(), scratch.data());
    }
  });
  double products = 0;
  for (const Weight& w : matrices.weights) products += 1.0 * n * w.n_rows * w.n_cols;
  count_products(state, products);
}

const int kRegistered = [] {
  for (const Form& form : kForms) {
    for (const Kernels& set : kernel_sets()) {
      if (set.name == "ref") continue;
      const std::string name = cat("matmul/", form.name, "/", set.name);
      benchmark::RegisterBenchmark(
          name.c_str(), [&form, set](benchmark::State& state) { multiply(state, form, set); })
          ->ArgName("rows")
          ->Arg(1)
          ->Arg(4)
          ->Arg(15)
          ->Arg(32)
          ->Arg(64)
          ->Arg(256)
          ->UseManualTime()
          ->Unit(benchmark::kMillisecond);
    }
  }
  return 0;
}();

}  // namespace
}  // namespace polykv::bench
