// A kernel that fails its self-test is told of: by the doctor, and in what an agent says of itself.
#include <gtest/gtest.h>

#include <algorithm>

#include "agents/agent_model.h"
#include "agents/doctor.h"
#include "ipc/isa.h"

namespace polykv {
namespace {

void lost_product(const Weight& w, const Activations& x, uint32_t, uint32_t, float* y, float*) {
  std::fill_n(y, size_t{x.n} * w.n_rows, 0.0f);
}
void lost_split(const SplitCall& call) {
  attend_split_ref(call);
  std::fill_n(call.acc_rotated, size_t{call.n_queries} * call.v->shape.head_dim, 0.0f);
}

constexpr Kernels kSets[] = {{"lost", quantise_ref, lost_product, swiglu_ref, geglu_ref},
                             {"ref", quantise_ref, matmul_ref, swiglu_ref, geglu_ref}};
constexpr AttendKernel kAttend[] = {{"ref", attend_split_ref}, {"gone", lost_split}};

bool has(const std::string& text, const char* part) { return text.find(part) != text.npos; }

TEST(Fallbacks, AnAgentNamesTheKernelsThatFailedAndWhatItUses) {
  const auto said = fallbacks_of(*choose_kernels("", kSets), *choose_attend_kernel("", kAttend));
  ASSERT_EQ(said.size(), 2U);
  EXPECT_EQ(said[0], "matrix kernels lost failed their self-test, ref is used");
  EXPECT_EQ(said[1], "attention kernels gone failed their self-test, ref is used");
}

TEST(Fallbacks, ThereAreNoneOnAHealthyMachine) {
  EXPECT_TRUE(fallbacks_of(*choose_kernels(), *choose_attend_kernel()).empty());
}

// Names that are not in the list are refused before anything starts.
TEST(Isa, NamesAreThoseOfTheKernelsThereAre) {
  std::vector<std::string_view> names;
  for (const AttendKernel& kernel : attend_kernels()) names.push_back(kernel.name);
  EXPECT_EQ(isa_names(), names);
  for (const std::string_view name : isa_names()) {
    EXPECT_TRUE(choose_matrix_kernels(std::string(name))) << name;
  }
}

TEST(Doctor, WarnsOfKernelsThatFailAndSaysWhatIsUsed) {
  const auto checks = examine_kernels(kSets, kAttend).objects("checks");
  ASSERT_EQ(checks.size(), 2U);
  for (const Message& check : checks) {
    EXPECT_EQ(check.text("verdict"), "warning");
    EXPECT_TRUE(has(check.text("found"), "ref is used")) << check.text("found");
    EXPECT_TRUE(has(check.text("advice"), "wrong numbers")) << check.text("advice");
  }
  EXPECT_TRUE(has(checks[0].text("found"), "failed theirs: lost"));
  EXPECT_TRUE(has(checks[1].text("found"), "failed theirs: gone"));
}

TEST(Doctor, SaysWhichInstructionsDoWhichOperation) {
  for (const Message& check : examine_kernels().objects("checks")) {
    EXPECT_TRUE(has(check.text("found"), " by ") || has(check.text("found"), "without vectors"))
        << check.text("found");
  }
}

TEST(Doctor, APlainProcessorIsSlowButUsable) {
  const Message report = examine_kernels(kernel_sets().last(1), attend_kernels().first(1));
  EXPECT_TRUE(report.flag("usable"));
  for (const Message& check : report.objects("checks")) {
    EXPECT_EQ(check.text("verdict"), "warning");
    EXPECT_TRUE(has(check.text("advice"), "slowly"));
  }
}

}  // namespace
}  // namespace polykv
