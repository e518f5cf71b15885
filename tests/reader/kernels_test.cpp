// Which attention kernels there are, and how one is chosen.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "reader/attend.h"
#include "tests/ipc/planes.h"

namespace polykv {
namespace {

TEST(AttendKernels, ReferenceIsAlwaysThereAndNoKernelFailsItsTest) {
  ASSERT_FALSE(attend_kernels().empty());
  EXPECT_EQ(attend_kernels().front().name, "ref");
  for (const AttendKernel& kernel : attend_kernels()) {
    EXPECT_TRUE(keeps_to_the_specification(kernel)) << kernel.name;
  }
}

// Every f16, what lies half way to the next one, the floats beside that, and any bits.
std::vector<float> hard_to_round() {
  std::vector<float> x;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float half = half_to_float(static_cast<uint16_t>(bits));
    const float next = half_to_float(static_cast<uint16_t>(bits + 1));
    const float middle = (half + next) / 2;
    x.insert(x.end(), {half, middle, std::nextafter(middle, half), std::nextafter(middle, next),
                       half * 2, -half / 3, std::bit_cast<float>(bits * 65537u),
                       std::bit_cast<float>(bits << 16 | (bits * 40503u & 0xffff))});
  }
  return x;
}

TEST(AttendKernels, RoundToF16WithTheSameBits) {
  const std::vector<float> x = hard_to_round();
  const auto n = static_cast<uint32_t>(x.size());
  std::vector<uint16_t> wanted(n), got(n);
  to_halves(x.data(), n, wanted.data());
  for (const AttendKernel& kernel : attend_kernels()) {
    kernel.to_halves(x.data(), n, got.data());
    EXPECT_EQ(got, wanted) << kernel.name;
  }
}

TEST(AttendKernels, BestIsChosenUnlessOneIsNamed) {
  EXPECT_EQ(choose_attend_kernel()->kernel.name, attend_kernels().back().name);
  EXPECT_TRUE(choose_attend_kernel()->refused.empty());
  EXPECT_EQ(choose_attend_kernel("ref")->kernel.name, "ref");
}

void expect_refused(const Result<AttendChoice>& choice, const std::string& name) {
  ASSERT_FALSE(choice);
  EXPECT_EQ(choice.error().code, ErrorCode::usage);
  EXPECT_EQ(choice.error().value, name);
  EXPECT_NE(choice.error().message.find(name), std::string::npos);
  EXPECT_NE(choice.error().message.find("ref"), std::string::npos);
}

TEST(AttendKernels, UnknownNameIsRefusedWithTheChoices) {
  expect_refused(choose_attend_kernel("avx9"), "avx9");
}

// As on a CPU that has no more than the reference.
TEST(AttendKernels, AKernelThatTheCpuLacksIsRefusedByName) {
  expect_refused(choose_attend_kernel("avx512", attend_kernels().first(1)), "avx512");
}

// Wrong in one dimension of one codec, as a broken look-up would be.
void spoiled_split(const SplitCall& call) {
  attend_split_ref(call);
  if (call.v->shape.codec == PlaneCodec::rot3) call.acc_rotated[63] += 0.5f * call.sum[0];
}

TEST(AttendKernels, AKernelThatFailsItsSelfTestIsPassedOverAndNamed) {
  const AttendKernel kernels[] = {{"ref", attend_split_ref}, {"spoiled", spoiled_split}};
  const auto choice = choose_attend_kernel("", kernels);
  ASSERT_TRUE(choice);
  EXPECT_EQ(choice->kernel.name, "ref");
  EXPECT_EQ(choice->refused, (std::vector<std::string_view>{"spoiled"}));
  const auto forced = choose_attend_kernel("spoiled", kernels);
  expect_refused(forced, "spoiled");
  EXPECT_NE(forced.error().message.find("self-test"), std::string::npos);
}

TEST(AttendKernels, HoldNoMoreThanOneTileDecoded) {
  const size_t tile = 64 * 64;
  const size_t per_query = split_scratch_floats(2, 64) - split_scratch_floats(1, 64);
  EXPECT_LE(split_scratch_floats(1, 64) - per_query, 2 * tile);
  EXPECT_LE(per_query, 2 * kSplitTokens);
}

TEST(AttendKernels, RotateToTheSameBits) {
  for (const AttendKernel& kernel : attend_kernels()) {
    for (const uint32_t n : {64u, 128u, 256u}) {
      auto wanted = testing::made_up_rows(1, n, 7), got = wanted;
      hadamard(wanted.data(), n);
      kernel.rotate(got.data(), n);
      EXPECT_EQ(got, wanted) << kernel.name << ", " << n;
    }
  }
}

}  // namespace
}  // namespace polykv
