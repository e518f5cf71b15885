// Merging with a heap of candidates; stale ones are recognised when they come up.
#include "model/tokenizer_bpe.h"

#include <algorithm>

#include "ipc/utf8.h"
#include "model/image_format.h"
#include "model/pre_tokenizer.h"
#include "model/token_tables.h"

namespace polykv {
namespace {

constexpr uint32_t kNone = 0xffffffff;
constexpr size_t kKeptSymbols = 4096;  // buffers larger than this are given back

// The heap's order: lowest rank first, then leftmost.
constexpr auto comes_later = [](const auto& a, const auto& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
};

bool by_characters(const TokenizerTables& tables) {
  return tables.pre_tokenizer == PreTokenizer::sentencepiece;
}

}  // namespace

Bpe::Bpe(const TokenizerTables& tables) : tables_(tables) {
  const TokenClass wanted = by_characters(tables) ? TokenClass::byte : TokenClass::plain;
  for (size_t i = 0; i < byte_tokens_.size(); ++i) {
    const char byte = static_cast<char>(i);
    byte_tokens_[i] = find_token(tables, {&byte, 1}, wanted).value_or(kNoToken);
  }
}

void Bpe::add_symbol(uint32_t token) {
  if (token == kNoToken) return;
  const auto at = static_cast<uint32_t>(symbols_.size());
  if (at > 0) symbols_.back().after = at;
  symbols_.push_back({token, at == 0 ? kNone : at - 1, kNone});
}

void Bpe::start_with_bytes(std::string_view piece) {
  for (const char c : piece) add_symbol(byte_tokens_[static_cast<unsigned char>(c)]);
}

void Bpe::start_with_characters(std::string_view piece) {
  for (size_t at = 0; at < piece.size();) {
    const std::string_view character = piece.substr(at, utf8_step(piece, at).bytes);
    if (const auto token = find_token(tables_, character, TokenClass::plain)) {
      add_symbol(*token);
    } else {
      start_with_bytes(character);
    }
    at += character.size();
  }
}

void Bpe::offer(uint32_t at) {
  if (at == kNone || symbols_[at].after == kNone) return;
  const uint32_t left = symbols_[at].token;
  const uint32_t right = symbols_[symbols_[at].after].token;
  const auto found = find_merge(tables_, left, right);
  if (!found) return;
  candidates_.push_back({found->rank, at, left, right});
  std::ranges::push_heap(candidates_, comes_later);
}

void Bpe::merge(const Candidate& candidate) {
  Symbol& left = symbols_[candidate.at];
  if (left.token != candidate.left || left.after == kNone) return;
  Symbol& right = symbols_[left.after];
  if (right.token != candidate.right) return;
  left.token = tables_.merges[candidate.rank * size_t{3} + 2];
  left.after = right.after;
  right.token = kNoToken;
  if (left.after != kNone) symbols_[left.after].before = candidate.at;
  offer(left.before);
  offer(candidate.at);
}

void Bpe::merge_all() {
  for (uint32_t at = 0; at < symbols_.size(); ++at) offer(at);
  while (!candidates_.empty()) {
    std::ranges::pop_heap(candidates_, comes_later);
    const Candidate candidate = candidates_.back();
    candidates_.pop_back();
    merge(candidate);
  }
}

void Bpe::encode(std::string_view piece, std::vector<uint32_t>& out) {
  if ((tables_.flags & kWholeWords) != 0) {
    if (const auto token = find_token(tables_, piece, TokenClass::plain)) {
      out.push_back(*token);
      return;
    }
  }
  symbols_.clear();
  candidates_.clear();
  if (by_characters(tables_)) {
    start_with_characters(piece);
  } else {
    start_with_bytes(piece);
  }
  merge_all();
  for (const Symbol& symbol : symbols_) {
    if (symbol.token != kNoToken) out.push_back(symbol.token);
  }
  if (symbols_.capacity() <= kKeptSymbols) return;
  symbols_ = {};
  candidates_ = {};
}

}  // namespace polykv
