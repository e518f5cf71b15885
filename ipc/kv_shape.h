// What a model's keys and values are, in numbers, as model images and segments agree on them.
#pragma once

#include <algorithm>
#include <cstdint>

namespace polykv {

// Which layers see only the last tokens before them (sliding windows, as in Mistral and Gemma 3).
// Stored in model images and segment headers: plain, fixed width.
struct LayerWindows {
  uint32_t tokens = 0;  // that a windowed layer's token sees, itself included; 0: no layer has one
  uint32_t period = 0;  // of every `period` layers the last one sees all; 0: all have the window

  // The window of a layer, counted from 0; 0: it sees all.
  uint32_t of(uint32_t layer) const {
    const bool sees_all = tokens == 0 || (period != 0 && (layer + 1) % period == 0);
    return sees_all ? 0 : tokens;
  }
  // Of a run's `n_tokens`, how many a later token of that layer may see: the last ones.
  uint32_t kept(uint32_t layer, uint32_t n_tokens) const {
    const uint32_t window = of(layer);
    return window == 0 ? n_tokens : std::min(n_tokens, window - 1);
  }
  bool operator==(const LayerWindows&) const = default;
};
static_assert(sizeof(LayerWindows) == 8);

struct KvShape {
  uint32_t n_layers = 0, n_kv_heads = 0, head_dim = 0;
  LayerWindows windows{};
  bool operator==(const KvShape&) const = default;
};

}  // namespace polykv
