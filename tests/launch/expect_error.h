// A failure is its code and what its sentence names.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

#include "ipc/result.h"

namespace polykv::testing {

// The code, and every one of the words in the sentence.
template <class T>
void expect_error(const Result<T>& result, ErrorCode code,
                  std::initializer_list<std::string> words) {
  ASSERT_FALSE(result) << "an error was expected: " << error_name(code);
  EXPECT_EQ(result.error().code, code) << result.error().message;
  for (const std::string& word : words) {
    EXPECT_NE(result.error().message.find(word), std::string::npos)
        << "'" << word << "' is not in: " << result.error().message;
  }
}

}  // namespace polykv::testing
