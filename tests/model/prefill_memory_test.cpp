// What a prefill takes at its peak: one layer of weights, one of K and V, and activations, whatever
// the model's depth. A program of its own: it watches its whole process.
#include <gtest/gtest.h>
#include <malloc.h>

#include <fstream>
#include <string>

#include "model/prefill.h"
#include "model/prefill_split.h"
#include "tests/model/real_model.h"

namespace polykv {
namespace {

// A line of /proc/self/status, in bytes.
uint64_t status_bytes(const std::string& name) {
  std::ifstream file("/proc/self/status");
  for (std::string key; file >> key; file.ignore(1000, '\n')) {
    uint64_t kilobytes = 0;
    if (key == name + ":" && file >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

// From now on the process's peak counts anew.
bool forget_peak() { return static_cast<bool>(std::ofstream("/proc/self/clear_refs") << 5); }

struct Form {
  PrefillPrecision precision;
  const Kernels* packed;  // null: all weights by libtorch
};

constexpr unsigned kThreads = 2;

Status run(uint32_t n_tokens, const Form& form) {
  const std::vector<uint32_t> tokens(n_tokens, 100);
  PrefillJob job;
  job.tokens = tokens;
  job.precision = form.precision;
  job.kernels = form.packed;
  job.layer_done = [](const LayerKv&) -> Status { return {}; };
  return prefill(*test::real_model(), job, kThreads);
}

// What attention takes beside its rows, in floats.
uint64_t attention_floats(const ModelConfig& c, uint64_t n, PrefillPrecision precision) {
  if (precision == PrefillPrecision::f32 || !can_split()) return 0;
  const uint64_t group = c.n_heads / c.n_kv_heads;
  if (precision == PrefillPrecision::fast) {
    return n * c.n_kv_heads * uint64_t{c.head_dim};
  }
  return 3 * n * (group + 1) * uint64_t{c.head_dim};
}

// As model/prefill.h states it, in bytes.
uint64_t stated(const ModelConfig& c, uint64_t n, const Form& form) {
  const uint64_t keys_and_values = n * (2 * c.n_kv_heads + 1) * c.head_dim;
  uint64_t all = keys_and_values + n * 4 * c.d_model + attention_floats(c, n, form.precision);
  if (form.precision == PrefillPrecision::fast && can_split()) {
    all += kThreads * 128 * (uint64_t{c.d_ff} + c.d_model);
  } else if (form.packed != nullptr) {
    all += kThreads * 128 * 3 * uint64_t{c.d_ff};
  } else {
    all += 3 * uint64_t{c.d_model} * c.d_ff + std::min<uint64_t>(n, 2048) * 2 * c.d_ff;
    if (form.precision != PrefillPrecision::f32) all += std::min<uint64_t>(n, 1024) * c.d_ff;
  }
  return all * sizeof(float);
}

void expect_stated_peak(const Form& form) {
  ASSERT_TRUE(run(64, form));  // threads, libraries and the image's pages are there
  for (const uint32_t n : {1024u, 3072u}) {
    ::malloc_trim(0);  // what earlier runs left
    const uint64_t before = status_bytes("VmRSS");
    ASSERT_TRUE(forget_peak());
    ASSERT_TRUE(run(n, form));
    const uint64_t peak = status_bytes("VmHWM") - before;
    const uint64_t wanted = stated(test::real_model()->config(), n, form);
    std::printf("%u tokens: peak %.1f MB, stated %.1f MB\n", n, static_cast<double>(peak) / 1e6,
                static_cast<double>(wanted) / 1e6);
    EXPECT_LE(peak, wanted + 32'000'000) << "what libraries and allocators need beside it";
    EXPECT_GE(peak, wanted / 3) << "the measure measures";
  }
}

TEST(PrefillMemory, PeakIsOneLayersWeightsKeysValuesAndActivations) {
  POLYKV_NEEDS_MODEL();
  expect_stated_peak({PrefillPrecision::f32, nullptr});
}

TEST(PrefillMemory, InHalvesToo) {
  POLYKV_NEEDS_MODEL();
  if (!can_split()) GTEST_SKIP() << "no AMX here, or libtorch lacks the product for it";
  expect_stated_peak({PrefillPrecision::best, nullptr});
}

TEST(PrefillMemory, PackedWeightsTakeNone) {
  POLYKV_NEEDS_MODEL();
  const KernelChoice chosen = *choose_kernels();
  if (chosen.set.name == "ref") GTEST_SKIP() << "no AVX2 here: the reference would take minutes";
  expect_stated_peak({PrefillPrecision::best, &chosen.set});
  expect_stated_peak({PrefillPrecision::fast, &chosen.set});
}

}  // namespace
}  // namespace polykv
