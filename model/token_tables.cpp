// Searching the tokenizer tables.
#include "model/token_tables.h"

#include "ipc/checksum.h"

namespace polykv {

size_t text_slot(std::string_view text, size_t n_slots) {
  return checksum64(std::as_bytes(std::span(text))) & (n_slots - 1);
}

std::optional<uint32_t> find_token(const TokenizerTables& tables, std::string_view text,
                                   TokenClass wanted) {
  const size_t n_slots = tables.text_slots.size();
  size_t slot = text_slot(text, n_slots);
  for (size_t probe = 0; probe < n_slots; ++probe, slot = (slot + 1) & (n_slots - 1)) {
    const uint32_t entry = tables.text_slots[slot];
    if (entry == 0) return std::nullopt;
    if (class_of(tables.kinds[entry - 1]) == wanted && token_text(tables, entry - 1) == text) {
      return entry - 1;
    }
  }
  return std::nullopt;
}

std::optional<Merge> find_merge(const TokenizerTables& tables, uint32_t left, uint32_t right) {
  const size_t n_slots = tables.merge_slots.size();
  size_t slot = merge_slot(left, right, n_slots);
  for (size_t probe = 0; probe < n_slots; ++probe, slot = (slot + 1) & (n_slots - 1)) {
    const uint32_t entry = tables.merge_slots[slot];
    if (entry == 0) return std::nullopt;
    const auto merge = tables.merges.subspan((entry - 1) * size_t{3}, 3);
    if (merge[0] == left && merge[1] == right) return Merge{entry - 1, merge[2]};
  }
  return std::nullopt;
}

}  // namespace polykv
