// The parsed contents of a GGUF file: values and tensors as views into its bytes (model/gguf.cpp
// reads them).
#pragma once

#include <map>
#include <span>
#include <string_view>
#include <vector>

#include "model/gguf.h"

namespace polykv {

enum class GgufKind : uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  text = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12,
};
const char* gguf_kind_name(GgufKind kind);
// Bytes of a scalar; 0 for texts and arrays.
size_t gguf_kind_bytes(GgufKind kind);

struct GgufTypeInfo {
  uint32_t id;
  const char* name;
  uint32_t block;  // elements per block; 0 = a known type that this build cannot run
  uint32_t bytes;  // per block
};
const GgufTypeInfo* gguf_type_info(uint32_t id);  // nullptr: no such type
std::string gguf_supported_types();               // "F32, F16, …"

struct GgufValue {
  GgufKind kind = GgufKind::u8;
  GgufKind item = GgufKind::u8;      // of an array
  uint64_t count = 1;                // items of an array
  std::span<const std::byte> bytes;  // a scalar's, a text's or all of an array's items
};

struct GgufContents {
  std::map<std::string_view, GgufValue> values;
  std::vector<FileTensor> tensors;
};

// `path` is for the messages only. The views are valid as long as `file`.
Result<GgufContents> parse_gguf(std::span<const std::byte> file, const std::string& path);

}  // namespace polykv
