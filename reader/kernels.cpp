// Which attention kernels this machine can run, and whether each keeps to the specification.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "ipc/amx.h"
#include "reader/attend.h"
#include "reader/avx2_tiles.h"

namespace polykv {
namespace {

constexpr uint32_t kWholeSpan = 1u << 30;  // rows
constexpr uint32_t kTestDim = 64;
constexpr uint32_t kTestRows = 75;  // sinks, one full tile, one short
constexpr uint32_t kTestQueries = 3;
constexpr uint32_t kTestQueriesMost = 17;  // the same three again: some kernels change their ways

// The same numbers everywhere.
class TestNumbers {
 public:
  uint32_t bits() { return state_ = state_ * 1664525u + 1013904223u; }
  float number() { return static_cast<float>(static_cast<int32_t>(bits())) * 0x1p-31f; }  // [-1, 1)
  uint16_t half() { return static_cast<uint16_t>(bits() >> 16 & 0xb7ff); }  // f16 in (-0.5, 0.5)

 private:
  uint32_t state_ = 1;
};

std::vector<float> test_queries(uint32_t n) {
  TestNumbers numbers;
  constexpr size_t kNumbers = size_t{kTestQueries} * kTestDim;
  std::vector<float> q(size_t{n} * kTestDim);
  for (size_t i = 0; i < q.size(); ++i) q[i] = i < kNumbers ? numbers.number() : q[i - kNumbers];
  return q;
}

// A small plane with its own bytes. Any codes and scales will do: they are not encoded from rows,
// which would take most of an agent's start.
struct TestPlane {
  std::vector<std::byte> bytes;
  PlaneView view;
};

template <class T, class Make>
void fill(TestPlane& plane, uint64_t at, size_t n, const Make& make) {
  for (size_t i = 0; i < n; ++i) {
    const T value = make();
    std::memcpy(plane.bytes.data() + at + i * sizeof value, &value, sizeof value);
  }
}

TestPlane test_plane(PlaneKind kind, PlaneCodec codec) {
  const PlaneShape shape{kind, codec, kTestRows, sink_rows(codec), kTestDim};
  const PlaneLayout layout = plane_layout(shape);
  TestPlane plane{std::vector<std::byte>(layout.bytes), {}};
  TestNumbers numbers;
  const auto number = [&] { return numbers.number(); };
  const auto half = [&] { return numbers.half(); };
  const auto byte = [&] { return static_cast<uint8_t>(numbers.bits() >> 24); };
  if (codec == PlaneCodec::f32) {
    fill<float>(plane, layout.codes, size_t{kTestRows} * kTestDim, number);
  } else if (codec == PlaneCodec::f16) {
    fill<uint16_t>(plane, layout.codes, size_t{kTestRows} * kTestDim, half);
  } else {
    fill<float>(plane, layout.mean, kTestDim, number);
    fill<uint16_t>(plane, layout.sinks, size_t{shape.n_sinks} * kTestDim, half);
    fill<uint8_t>(plane, layout.scales, coded_rows(shape), byte);
    fill<uint8_t>(plane, layout.codes, layout.bytes - layout.codes, byte);
  }
  const float scale_max = codec == PlaneCodec::rot8 ? 1.0f / 128 : 0.5f;
  plane.view = plane_view(shape, scale_max, plane.bytes.data());
  return plane;
}

std::vector<float> attend_test(const AttendKernel& kernel, const TestPlane& k, const TestPlane& v,
                               uint32_t n) {
  const auto q = test_queries(n);
  std::vector<float> acc(q.size());
  std::array<float, kTestQueriesMost> max;
  std::array<float, kTestQueriesMost> sum;
  std::vector<Partial> states;
  for (uint32_t i = 0; i < n; ++i) {
    states.push_back({&max[i], &sum[i], acc.data() + size_t{i} * kTestDim});
    clear(states.back(), kTestDim);
  }
  std::vector<float> work(attend_work_floats(n, kTestDim));
  attend_span(kernel, {&k.view, &v.view, 0, kTestRows, n, q.data(), states.data(), work.data()});
  for (uint32_t i = 0; i < n; ++i) normalise(states[i], kTestDim, states[i].acc);
  return acc;
}

// Coded rows are rounded to integers (measured on these: at most 1.5e-2), plain ones are not. A
// wrong lane, shift or sign is off by tenths.
bool reproduces(const AttendKernel& kernel, PlaneCodec codec) {
  constexpr AttendKernel kReference{"ref", attend_split_ref};
  const TestPlane k = test_plane(PlaneKind::k, codec);
  const TestPlane v = test_plane(PlaneKind::v, codec);
  const float tolerance = is_rotated(codec) ? 3e-2f : 1e-5f;
  const auto wanted = attend_test(kReference, k, v, kTestQueries);
  const auto agrees = [&](uint32_t n) {
    const auto got = attend_test(kernel, k, v, n);
    bool all = true;
    for (size_t i = 0; i < got.size(); ++i) {
      all = all && std::abs(got[i] - wanted[i % wanted.size()]) < tolerance;
    }
    return all;
  };
  return agrees(kTestQueries) && agrees(kTestQueriesMost);
}

bool rounds_as_it_should(const AttendKernel& kernel) {
  TestNumbers numbers;
  std::array<float, kTestDim> x;
  for (float& value : x) value = std::bit_cast<float>(numbers.bits());
  std::array<uint16_t, kTestDim> got, wanted;
  kernel.to_halves(x.data(), kTestDim, got.data());
  to_halves(x.data(), kTestDim, wanted.data());
  return got == wanted;
}

// Kernels for whose instructions this CPU is made, the best last.
std::vector<AttendKernel> find_kernels() {
  std::vector<AttendKernel> kernels = {{"ref", attend_split_ref, "all without vectors"}};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c")) {
    kernels.push_back(
        {"avx2", attend_split_avx2, "all by AVX2", kSplitTokens, hadamard, to_halves_avx2});
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vnni")) {
      kernels.push_back({"avx512", attend_split_avx512,
                         "codes by AVX-512 VNNI; f16, f32 and softmax by AVX-512", kWholeSpan,
                         hadamard_avx512, to_halves_avx2});
      if (__builtin_cpu_supports("avx512vbmi")) {
        kernels.push_back({"avx512vbmi", attend_split_avx512vbmi,
                           "codes by AVX-512 VNNI and VBMI; f16, f32 and softmax by AVX-512",
                           kWholeSpan, hadamard_avx512, to_halves_avx2});
        if (has_amx_tiles()) {
          kernels.push_back({"amx", attend_split_amx,
                             "codes by AMX from 12 queries on, below by AVX-512 VNNI and VBMI; "
                             "f16, f32 and softmax by AVX-512",
                             kWholeSpan, hadamard_avx512, to_halves_avx2});
        }
      }
    }
  }
#endif
  return kernels;
}

std::string names_of(std::span<const AttendKernel> kernels) {
  std::string names;
  for (const AttendKernel& kernel : kernels) {
    names += (names.empty() ? "" : ", ") + std::string(kernel.name);
  }
  return names;
}

}  // namespace

const float* avx2::paper_book() { return paper_points().data(); }

bool keeps_to_the_specification(const AttendKernel& kernel) {
  constexpr std::array kCodecs = {PlaneCodec::rot2, PlaneCodec::rot3, PlaneCodec::rot4,
                                  PlaneCodec::rot5, PlaneCodec::rot6, PlaneCodec::rot8,
                                  PlaneCodec::f16,  PlaneCodec::f32};
  if (kernel.split == attend_split_ref) return true;
  return rounds_as_it_should(kernel) &&
         std::ranges::all_of(kCodecs, [&](PlaneCodec codec) { return reproduces(kernel, codec); });
}

std::span<const AttendKernel> attend_kernels() {
  static const std::vector<AttendKernel> kernels = find_kernels();
  return kernels;
}

Result<AttendChoice> choose_attend_kernel(std::string_view force,
                                          std::span<const AttendKernel> kernels) {
  AttendChoice choice{};
  for (size_t i = kernels.size(); i-- > 0;) {
    choice.kernel = kernels[i];
    if (!force.empty() && choice.kernel.name != force) continue;
    if (keeps_to_the_specification(choice.kernel)) return choice;
    choice.refused.push_back(choice.kernel.name);
  }
  const std::string why = choice.refused.empty() ? "cannot run here" : "failed its self-test";
  return fail(ErrorCode::usage,
              cat("attention kernel \"", force, "\" ", why, ": choose one of ", names_of(kernels)),
              std::string(force), names_of(kernels));
}

}  // namespace polykv
