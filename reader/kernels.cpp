// Which attention kernels this machine can run, and whether each keeps to the specification.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "reader/attend.h"
#include "reader/avx2_tiles.h"

namespace polykv {
namespace {

constexpr uint32_t kTestDim = 64;
constexpr uint32_t kTestRows = 75;  // sinks, one full tile, one short
constexpr uint32_t kTestQueries = 4;

// Numbers in [-1, 1), the same everywhere.
std::vector<float> test_numbers(size_t n, uint32_t seed) {
  std::vector<float> numbers(n);
  uint32_t state = seed;
  for (float& number : numbers) {
    state = state * 1664525u + 1013904223u;
    number = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f;
  }
  return numbers;
}

// A small plane with its own bytes.
struct TestPlane {
  std::vector<std::byte> bytes;
  PlaneView view;
};

TestPlane test_plane(PlaneKind kind, PlaneCodec codec) {
  const PlaneShape shape{kind, codec, kTestRows, sink_rows(codec), kTestDim};
  TestPlane plane{std::vector<std::byte>(plane_layout(shape).bytes), {}};
  std::byte* const bytes = plane.bytes.data();
  const auto rows = test_numbers(size_t{kTestRows} * kTestDim, static_cast<uint32_t>(kind));
  float scale_max = 0;
  encode_layer(shape, 1, rows.data(), {&bytes, 1}, &scale_max);
  plane.view = plane_view(shape, scale_max, bytes);
  return plane;
}

std::vector<float> attend_test(const AttendKernel& kernel, const TestPlane& k, const TestPlane& v) {
  const auto q = test_numbers(size_t{kTestQueries} * kTestDim, 3);
  std::vector<float> acc(q.size());
  std::array<float, kTestQueries> max;
  std::array<float, kTestQueries> sum;
  std::vector<Partial> states;
  for (uint32_t i = 0; i < kTestQueries; ++i) {
    states.push_back({&max[i], &sum[i], acc.data() + size_t{i} * kTestDim});
    clear(states.back(), kTestDim);
  }
  std::vector<float> work(attend_work_floats(kTestQueries, kTestDim));
  attend_span(kernel,
              {&k.view, &v.view, 0, kTestRows, kTestQueries, q.data(), states.data(), work.data()});
  for (uint32_t i = 0; i < kTestQueries; ++i) normalise(states[i], kTestDim, states[i].acc);
  return acc;
}

// Coded rows are rounded to integers (measured on these: at most 6e-3), plain ones are not. A wrong
// lane, shift or sign is off by tenths.
bool keeps_to_the_specification(const AttendKernel& kernel) {
  constexpr AttendKernel kReference{"ref", attend_split_ref};
  constexpr std::array kCodecs = {PlaneCodec::rot2, PlaneCodec::rot3, PlaneCodec::rot4,
                                  PlaneCodec::rot5, PlaneCodec::rot6, PlaneCodec::rot8,
                                  PlaneCodec::f16,  PlaneCodec::f32};
  return std::ranges::all_of(kCodecs, [&](PlaneCodec codec) {
    const TestPlane k = test_plane(PlaneKind::k, codec);
    const TestPlane v = test_plane(PlaneKind::v, codec);
    const float tolerance = is_rotated(codec) ? 2e-2f : 1e-5f;
    return std::ranges::equal(attend_test(kernel, k, v), attend_test(kReference, k, v),
                              [&](float a, float b) { return std::abs(a - b) < tolerance; });
  });
}

// Kernels for whose instructions this CPU is made, the best last.
std::vector<AttendKernel> possible_kernels() {
  std::vector<AttendKernel> kernels = {{"ref", attend_split_ref}};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c")) {
    kernels.push_back({"avx2", attend_split_avx2});
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vnni")) {
      kernels.push_back({"avx512", attend_split_avx512});
      if (__builtin_cpu_supports("avx512vbmi")) {
        kernels.push_back({"avx512vbmi", attend_split_avx512vbmi});
      }
    }
  }
#endif
  return kernels;
}

struct Tested {
  std::vector<AttendKernel> kernels;
  int refused = 0;
};

Tested test_kernels() {
  Tested tested;
  for (const AttendKernel& kernel : possible_kernels()) {
    if (kernel.name == "ref" || keeps_to_the_specification(kernel)) {
      tested.kernels.push_back(kernel);
    } else {
      ++tested.refused;
    }
  }
  return tested;
}

// Tested once a process.
const Tested& tested_kernels() {
  static const Tested tested = test_kernels();
  return tested;
}

std::string kernel_names() {
  std::string names;
  for (const AttendKernel& kernel : attend_kernels()) {
    names += (names.empty() ? "" : ", ") + std::string(kernel.name);
  }
  return names;
}

}  // namespace

const float* avx2::paper_book() { return paper_points().data(); }

std::span<const AttendKernel> attend_kernels() { return tested_kernels().kernels; }

int attend_fallbacks() { return tested_kernels().refused; }

Result<AttendKernel> choose_attend_kernel(std::string_view force) {
  const auto kernels = attend_kernels();
  if (force.empty()) return kernels.back();
  const auto found = std::ranges::find(kernels, force, &AttendKernel::name);
  if (found != kernels.end()) return *found;
  return fail(
      ErrorCode::usage,
      cat("attention kernel \"", force, "\" cannot run here: choose one of ", kernel_names()),
      std::string(force), kernel_names());
}

}  // namespace polykv
