// The tables of GGUF's tensor and metadata types.
#include <algorithm>

#include "model/gguf_parse.h"

namespace polykv {
namespace {

constexpr GgufTypeInfo kTypes[] = {
    {0, "F32", 1, 4},       {1, "F16", 1, 2},       {30, "BF16", 1, 2},     {2, "Q4_0", 32, 18},
    {3, "Q4_1", 32, 20},    {6, "Q5_0", 32, 22},    {7, "Q5_1", 32, 24},    {8, "Q8_0", 32, 34},
    {12, "Q4_K", 256, 144}, {13, "Q5_K", 256, 176}, {14, "Q6_K", 256, 210}, {9, "Q8_1", 0, 0},
    {10, "Q2_K", 0, 0},     {11, "Q3_K", 0, 0},     {15, "Q8_K", 0, 0},     {16, "IQ2_XXS", 0, 0},
    {17, "IQ2_XS", 0, 0},   {18, "IQ3_XXS", 0, 0},  {19, "IQ1_S", 0, 0},    {20, "IQ4_NL", 0, 0},
    {21, "IQ3_S", 0, 0},    {22, "IQ2_S", 0, 0},    {23, "IQ4_XS", 0, 0},   {24, "I8", 0, 0},
    {25, "I16", 0, 0},      {26, "I32", 0, 0},      {27, "I64", 0, 0},      {28, "F64", 0, 0},
    {29, "IQ1_M", 0, 0},    {34, "TQ1_0", 0, 0},    {35, "TQ2_0", 0, 0},    {39, "MXFP4", 0, 0},
};

}  // namespace

const GgufTypeInfo* gguf_type_info(uint32_t id) {
  const auto* found = std::ranges::find(kTypes, id, &GgufTypeInfo::id);
  return found == std::end(kTypes) ? nullptr : found;
}

std::string gguf_supported_types() {
  std::string names;
  for (const GgufTypeInfo& type : kTypes) {
    if (type.block > 0) names += cat(names.empty() ? "" : ", ", type.name);
  }
  return names;
}

size_t gguf_kind_bytes(GgufKind kind) {
  constexpr uint8_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return kBytes[static_cast<size_t>(kind)];
}

const char* gguf_kind_name(GgufKind kind) {
  constexpr const char* kNames[] = {"u8",   "i8",   "u16",   "i16", "u32", "i32", "f32",
                                    "bool", "text", "array", "u64", "i64", "f64"};
  return kNames[static_cast<size_t>(kind)];
}

const char* gguf_type_name(GgufType type) {
  return gguf_type_info(static_cast<uint32_t>(type))->name;
}

}  // namespace polykv
