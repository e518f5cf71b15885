// A search by first byte, then by length: tables of a few bytes, whatever the vocabulary's size.
#include "model/tokenizer_user.h"

#include <algorithm>
#include <functional>

#include "model/token_tables.h"

namespace polykv {

UserTokens::UserTokens(const TokenizerTables& tables) : tables_(tables) {
  for (uint32_t token = 0; token < tables.kinds.size(); ++token) {
    if (tables.kinds[token] != kKindUser) continue;
    const std::string_view text = token_text(tables, token);
    auto& lengths = lengths_[static_cast<unsigned char>(text[0])];
    if (lengths.empty()) first_bytes_ += text[0];
    const auto length = static_cast<uint32_t>(text.size());
    if (std::ranges::find(lengths, length) == lengths.end()) lengths.push_back(length);
  }
  for (auto& lengths : lengths_) std::ranges::sort(lengths, std::greater());
}

std::optional<uint32_t> UserTokens::at(std::string_view text) const {
  for (const uint32_t length : lengths_[static_cast<unsigned char>(text[0])]) {
    if (length > text.size()) continue;
    const auto token = find_token(tables_, text.substr(0, length), TokenClass::plain);
    if (token && tables_.kinds[*token] == kKindUser) return token;
  }
  return std::nullopt;
}

std::optional<UserTokens::Found> UserTokens::next(std::string_view text, size_t from) const {
  for (size_t i = text.find_first_of(first_bytes_, from); i < text.size();
       i = text.find_first_of(first_bytes_, i + 1)) {
    if (const auto token = at(text.substr(i))) return Found{i, *token};
  }
  return std::nullopt;
}

}  // namespace polykv
