// Names of kernels are refused before anything is started for them.
#include "ipc/isa.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace polykv {
namespace {

TEST(Isa, WhatIsHereIsTakenAndSoIsNothing) {
  for (const std::string_view name : isa_names()) EXPECT_TRUE(check_isa(name)) << name;
  EXPECT_TRUE(check_isa("")) << "the best";
  EXPECT_TRUE(check_isa("fp32")) << "nothing rounded";
  EXPECT_EQ(isa_names().front(), "ref") << "everywhere";
}

TEST(Isa, WhatNobodyKnowsOrThisProcessorLacksIsRefusedWithTheNamesThereAre) {
  for (const std::string name : {"bogus", "AVX2", "avx", "ref ", "avx2", "avx512", "amx"}) {
    const auto here = isa_names();
    if (std::ranges::count(here, name) > 0) continue;
    const Status refused = check_isa(name);
    ASSERT_FALSE(refused) << name;
    EXPECT_EQ(refused.error().code, ErrorCode::usage);
    EXPECT_EQ(refused.error().value, name);
    for (const std::string_view words : {name.c_str(), "ref", "leave it out"}) {
      EXPECT_NE(refused.error().message.find(words), std::string::npos) << words;
    }
    for (const std::string_view one : here) {
      EXPECT_NE(refused.error().limit.find(one), std::string::npos) << one;
    }
  }
}

}  // namespace
}  // namespace polykv
