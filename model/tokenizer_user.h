// Tokens that a vocabulary's maker defined (kind 4): they are found in plain text before anything
// else, the leftmost first, the longest of those.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "model/image.h"

namespace polykv {

class UserTokens {
 public:
  explicit UserTokens(const TokenizerTables& tables);

  struct Found {
    size_t at;
    uint32_t token;
  };
  // The first one at `from` or behind it.
  std::optional<Found> next(std::string_view text, size_t from) const;

 private:
  std::optional<uint32_t> at(std::string_view text) const;

  const TokenizerTables& tables_;
  std::array<std::vector<uint32_t>, 256> lengths_;  // by first byte: which occur, longest first
  std::string first_bytes_;
};

}  // namespace polykv
