// Which kernel set runs here: what the CPU has, trusted only after it has reproduced a known
// vector.
#include <array>
#include <span>
#include <vector>

#include "ipc/amx.h"
#include "model/kernels.h"
#include "model/weight_layout.h"

namespace polykv {
namespace {

constexpr uint32_t kTestRows = 19, kTestCols = 96, kTestInputs = 9;
constexpr uint32_t kTestGroups = 2;

// Small integers as weights, scales and inputs: every sum is exact in f32, whatever its order, and
// so are inputs in 16 bits.
int test_code(uint32_t row, uint32_t col) { return static_cast<int>((row * 7 + col * 5) % 16); }
int test_input(uint32_t m, uint32_t col) { return static_cast<int>((m * 3 + col * 11) % 17) - 8; }

struct TestMatrix {
  std::array<std::byte, kTestGroups * kGroupRows * kTestCols * 4> values{};
  std::array<uint16_t, kTestGroups * kGroupRows * kTestCols / 16> scales{};
  Weight weight;
};

void fill_scales(TestMatrix& t) {
  constexpr uint16_t kOne = 0x3c00, kMinusEight = 0xc800;
  for (size_t i = 0; i < t.scales.size(); ++i) {
    t.scales[i] = t.weight.has_min == 1 && i / kGroupRows % 2 == 1 ? kMinusEight : kOne;
  }
}

void put_code(TestMatrix& t, uint32_t row, uint32_t col) {
  const int q = test_code(row, col);
  const Weight& w = t.weight;
  if (!is_packed(w)) {
    const float value = static_cast<float>(q - 8);
    std::memcpy(&t.values[(row * kTestCols + col) * sizeof value], &value, sizeof value);
    return;
  }
  const uint32_t in = col % w.block;
  std::byte* codes = &t.values[code_offset(w, row, col / w.block)];
  if (w.type == WeightType::w4) {
    codes[in % 16 / 4 * 64 + in % 4] |= static_cast<std::byte>(in < 16 ? q : q << 4);
  } else {
    codes[in / 4 * 64 + in % 4] = static_cast<std::byte>((w.has_min == 1 ? q : q - 8) + kCodeZero);
  }
}

struct TestForm {
  WeightType type;
  uint32_t block, has_min;
};

void make_test_matrix(const TestForm& form, TestMatrix& t) {
  t.weight = {.type = form.type,
              .n_rows = kTestRows,
              .n_cols = kTestCols,
              .block = form.block,
              .has_min = form.has_min,
              .values = t.values.data(),
              .scales = t.scales.data()};
  fill_scales(t);
  for (uint32_t i = 0; i < kTestRows * kTestCols; ++i) put_code(t, i / kTestCols, i % kTestCols);
}

int expected(uint32_t m, uint32_t row) {
  int sum = 0;
  for (uint32_t c = 0; c < kTestCols; ++c) sum += (test_code(row, c) - 8) * test_input(m, c);
  return sum;
}

bool reproduces(const Kernels& set, const TestForm& form) {
  TestMatrix t;
  make_test_matrix(form, t);
  std::array<float, kTestInputs * kTestCols> x{};
  for (uint32_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<float>(test_input(i / kTestCols, i % kTestCols));
  }
  const ActivationBuffer buffer(kTestInputs, kTestCols);
  const Activations in = buffer.of(x.data(), kTestInputs, kTestCols);
  set.quantise(in, 0, kTestInputs);
  std::array<float, kTestInputs * kTestRows> y{};
  std::array<float, matmul_scratch_floats(kTestCols)> scratch{};
  set.matmul(t.weight, in, 0, kTestRows, y.data(), scratch.data());
  bool same = true;
  for (uint32_t i = 0; i < y.size(); ++i) {
    same = same && y[i] == static_cast<float>(expected(i / kTestRows, i % kTestRows));
  }
  return same;
}

bool activates(const Kernels& set) {
  std::array<float, 11> gate{};
  std::array<float, 11> up{};
  for (uint32_t i = 0; i < gate.size(); ++i) {
    gate[i] = static_cast<float>(i) * 2 - 9;
    up[i] = static_cast<float>(i) - 4;
  }
  const auto same = [&](GatedFn tested, GatedFn specified) {
    auto got = gate, wanted = gate;
    tested(got.data(), up.data(), got.size());
    specified(wanted.data(), up.data(), wanted.size());
    return got == wanted;
  };
  return same(set.swiglu, swiglu_ref) && same(set.geglu, geglu_ref);
}

// Sets for whose instructions this CPU is made, the best first.
std::vector<Kernels> find_sets() {
  std::vector<Kernels> sets;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c")) {
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vnni")) {
      if (has_amx_tiles()) {
        sets.push_back(
            {"amx", quantise_avx512, matmul_amx, swiglu_avx2, geglu_avx2,
             "w4 and w8 by AMX from 8 rows on, below by AVX-512 VNNI; rounding by AVX-512; "
             "f16, bf16, f32 and gates by AVX2"});
      }
      sets.push_back(
          {"avx512", quantise_avx512, matmul_avx512, swiglu_avx2, geglu_avx2,
           "w4 and w8 by AVX-512 VNNI; rounding by AVX-512; f16, bf16, f32 and gates by AVX2"});
    }
    sets.push_back({"avx2", quantise_avx2, matmul_avx2, swiglu_avx2, geglu_avx2, "all by AVX2"});
  }
#endif
  sets.push_back({"ref", quantise_ref, matmul_ref, swiglu_ref, geglu_ref, "all without vectors"});
  return sets;
}

std::string names_of(std::span<const Kernels> sets) {
  std::string names;
  for (const Kernels& set : sets) names += cat(names.empty() ? "" : ", ", set.name);
  return names;
}

}  // namespace

bool reproduces_known_vectors(const Kernels& set) {
  constexpr TestForm kForms[] = {{WeightType::w4, 32, 1},
                                 {WeightType::w8, 32, 1},
                                 {WeightType::w8, 32, 0},
                                 {WeightType::w8, 16, 0},
                                 {WeightType::f32, 0, 0}};
  bool all = activates(set);
  for (const TestForm& form : kForms) all = all && reproduces(set, form);
  return all;
}

std::span<const Kernels> kernel_sets() {
  static const std::vector<Kernels> sets = find_sets();
  return sets;
}

Result<KernelChoice> choose_kernels(std::string_view force, std::span<const Kernels> sets) {
  std::vector<std::string_view> refused;
  for (const Kernels& set : sets) {
    if (!force.empty() && set.name != force) continue;
    if (reproduces_known_vectors(set)) return KernelChoice{set, refused};
    refused.push_back(set.name);
  }
  const std::string why = refused.empty() ? "cannot run here" : "failed its self-test";
  return fail(ErrorCode::usage,
              cat("kernel set \"", force, "\" ", why, ": choose one of ", names_of(sets)),
              std::string(force), names_of(sets));
}

Result<KernelChoice> choose_matrix_kernels(const std::string& isa) {
  if (isa == kFp32Kernels.name) return KernelChoice{kFp32Kernels, {}};
  return choose_kernels(isa == "avx512vbmi" ? "avx512" : isa);
}

}  // namespace polykv
