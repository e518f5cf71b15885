// Writes GGUF bytes for tests, right or wrong at will.
#pragma once

#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "model/gguf_parse.h"

namespace polykv::test {

template <class T>
std::string raw(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}
inline std::string raw_text(const std::string& text) { return raw<uint64_t>(text.size()) + text; }
inline std::string raw_array(GgufKind item, uint64_t count, const std::string& items) {
  return raw(static_cast<uint32_t>(item)) + raw(count) + items;
}

struct WrittenTensor {
  std::string name;
  uint32_t type;
  std::vector<uint64_t> shape;  // innermost first
  std::string data;
  std::optional<uint64_t> offset = std::nullopt;  // instead of the right one
};

struct GgufWriter {
  struct Entry {
    std::string key;
    uint32_t kind;
    std::string value;
  };
  uint32_t magic = 0x46554747, version = 3;
  uint64_t alignment = 32;
  std::optional<uint64_t> n_entries, n_tensors;  // instead of the right ones
  std::vector<Entry> entries;
  std::vector<WrittenTensor> tensors;

  void remove(const std::string& key) {
    std::erase_if(entries, [&](const Entry& entry) { return entry.key == key; });
  }
  // Replaces an entry of the same key.
  void set(const std::string& key, GgufKind kind, const std::string& value) {
    remove(key);
    entries.push_back({key, static_cast<uint32_t>(kind), value});
  }
  void u32(const std::string& key, uint32_t value) { set(key, GgufKind::u32, raw(value)); }
  void f32(const std::string& key, float value) { set(key, GgufKind::f32, raw(value)); }
  void flag(const std::string& key, uint8_t value) { set(key, GgufKind::boolean, raw(value)); }
  void text(const std::string& key, const std::string& value) {
    set(key, GgufKind::text, raw_text(value));
  }
  void texts(const std::string& key, const std::vector<std::string>& values) {
    std::string items;
    for (const auto& value : values) items += raw_text(value);
    set(key, GgufKind::array, raw_array(GgufKind::text, values.size(), items));
  }
  void i32s(const std::string& key, const std::vector<int32_t>& values) {
    std::string items;
    for (const int32_t value : values) items += raw(value);
    set(key, GgufKind::array, raw_array(GgufKind::i32, values.size(), items));
  }
  void f32s(const std::string& key, const std::vector<float>& values) {
    std::string items;
    for (const float value : values) items += raw(value);
    set(key, GgufKind::array, raw_array(GgufKind::f32, values.size(), items));
  }
  WrittenTensor& tensor(const std::string& name) {
    for (auto& tensor : tensors) {
      if (tensor.name == name) return tensor;
    }
    return tensors.emplace_back(WrittenTensor{name, 0, {}, {}});
  }

  std::string bytes() const {
    std::string out = raw(magic) + raw(version) + raw(n_tensors.value_or(tensors.size())) +
                      raw(n_entries.value_or(entries.size()));
    for (const Entry& entry : entries) out += raw_text(entry.key) + raw(entry.kind) + entry.value;
    std::string data;
    for (const WrittenTensor& tensor : tensors) {
      data.resize((data.size() + alignment - 1) / alignment * alignment);
      out += raw_text(tensor.name) + raw(static_cast<uint32_t>(tensor.shape.size()));
      for (const uint64_t n : tensor.shape) out += raw(n);
      out += raw(tensor.type) + raw(tensor.offset.value_or(data.size()));
      data += tensor.data;
    }
    out.resize((out.size() + alignment - 1) / alignment * alignment);
    return out + data;
  }
};

}  // namespace polykv::test
