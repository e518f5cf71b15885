// A sealed segment of made-up K and V: what the fake writer hands over, and the registry admits.
#pragma once

#include <string>
#include <vector>

#include "ipc/segment.h"

namespace polykv::testing {

inline constexpr KvShape kSmallShape{2, 1, 64};

// The model's fingerprint: 16 equal bytes.
inline Fingerprint small_model(uint8_t byte = 0xab) {
  Fingerprint model;
  model.fill(byte);
  return model;
}

inline std::vector<uint32_t> counted_tokens(uint32_t n) {
  std::vector<uint32_t> tokens(n);
  for (uint32_t i = 0; i < n; ++i) tokens[i] = i;
  return tokens;
}

inline SegmentSpec small_spec(std::vector<uint32_t> tokens, const CodecSpec& codec,
                              const Fingerprint& model = small_model()) {
  SegmentSpec spec;
  spec.shape = kSmallShape;
  spec.codec = codec;
  spec.model = model;
  spec.tokens = std::move(tokens);
  return spec;
}

inline Result<UniqueFd> small_segment(const SegmentSpec& spec, const MemoryRoom& room = {}) {
  auto builder = SegmentBuilder::create(spec, room);
  if (!builder) return pass(builder);
  std::vector<float> rows(spec.tokens.size() * spec.shape.n_kv_heads * spec.shape.head_dim);
  for (uint32_t layer = 0; layer < spec.shape.n_layers; ++layer) {
    for (size_t i = 0; i < rows.size(); ++i) {
      rows[i] = static_cast<float>((i * 7 + layer * 3) % 31) / 8.0f - 2.0f;
    }
    builder->put_layer(layer, rows.data(), rows.data());
  }
  return std::move(*builder).seal();
}

// The same segment with one byte changed, sealed again: an accident on its way.
inline Result<UniqueFd> spoiled_segment(UniqueFd sealed) {
  auto view = SharedView::map(std::move(sealed));
  if (!view) return pass(view);
  std::vector<std::byte> bytes(view->data().begin(), view->data().end());
  bytes.back() ^= std::byte{1};
  return share_bytes("polykv-spoiled", bytes, {});
}

}  // namespace polykv::testing
