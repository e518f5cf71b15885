// Attention on encoded bytes: every (layer, head) of a 135M model in turn.
#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "reader/attend.h"
#include "tests/bench/memory_region.h"

namespace polykv::bench {
namespace {

constexpr uint32_t kPlanes = 90;  // 30 layers of 3 heads

struct Setting {
  uint32_t n_queries, n_tokens, head_dim;
};

// Planes of made-up codes in one memfd.
struct Pool {
  MemoryRegion region;
  std::vector<PlaneView> k, v;

  static PlaneShape shape(PlaneKind kind, PlaneCodec codec, const Setting& setting) {
    return {kind, codec, setting.n_tokens, sink_rows(codec), setting.head_dim};
  }
  static size_t bytes(const CodecSpec& codec, const Setting& setting) {
    return room(shape(PlaneKind::k, codec.k, setting)) +
           room(shape(PlaneKind::v, codec.v, setting));
  }
  static size_t room(const PlaneShape& shape) { return (plane_layout(shape).bytes + 63) / 64 * 64; }
  Pool(const CodecSpec& codec, const Setting& setting) : region(bytes(codec, setting) * kPlanes) {
    const std::byte* at = region.bytes().data();
    for (uint32_t i = 0; i < kPlanes; ++i) {
      const PlaneShape k_shape = shape(PlaneKind::k, codec.k, setting);
      const PlaneShape v_shape = shape(PlaneKind::v, codec.v, setting);
      k.push_back(plane_view(k_shape, 1, at));
      v.push_back(plane_view(v_shape, 1, at + room(k_shape)));
      at += bytes(codec, setting);
    }
  }
};

struct States {
  std::vector<float> max, sum, acc, work;
  std::vector<Partial> partials;

  explicit States(const Setting& s)
      : max(s.n_queries),
        sum(s.n_queries),
        acc(size_t{s.n_queries} * s.head_dim),
        work(attend_work_floats(s.n_queries, s.head_dim)) {
    for (uint32_t i = 0; i < s.n_queries; ++i) {
      partials.push_back({&max[i], &sum[i], acc.data() + size_t{i} * s.head_dim});
    }
  }
};

void attend(benchmark::State& state, const CodecSpec& codec, const AttendKernel& kernel) {
  const Setting setting{static_cast<uint32_t>(state.range(0)),
                        static_cast<uint32_t>(state.range(1)),
                        static_cast<uint32_t>(state.range(2))};
  const Pool pool(codec, setting);
  States states(setting);
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 0.125f);
  std::vector<float> q(states.acc.size());
  for (float& x : q) x = normal(random);
  compare_with_reading(state, pool.region.bytes(), kPlanes, [&](size_t i) {
    for (const Partial& partial : states.partials) clear(partial, setting.head_dim);
    attend_span(kernel, {&pool.k[i], &pool.v[i], 0, setting.n_tokens, setting.n_queries, q.data(),
                         states.partials.data(), states.work.data()});
  });
  count_products(state, 2.0 * kPlanes * setting.n_queries * setting.n_tokens * setting.head_dim);
}

const int kRegistered = [] {
  for (const char* codec : {"k4v4", "k8v3", "k5v4", "k4v3", "k8v8", "f16", "f32"}) {
    for (const AttendKernel& kernel : attend_kernels()) {
      if (kernel.name == "ref") continue;
      const std::string name = cat("attend/", codec, "/", kernel.name);
      benchmark::RegisterBenchmark(
          name.c_str(),
          [codec, kernel](benchmark::State& state) { attend(state, *parse_codec(codec), kernel); })
          ->ArgNames({"queries", "tokens", "dim"})
          ->Args({3, 4096, 64})
          ->Args({3, 16384, 64})
          ->Args({45, 4096, 64})
          ->Args({192, 4096, 64})
          ->Args({4, 4096, 128})
          ->UseManualTime()
          ->Unit(benchmark::kMillisecond);
    }
  }
  return 0;
}();

}  // namespace
}  // namespace polykv::bench
