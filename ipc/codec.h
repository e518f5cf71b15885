// The codecs: how one K or V row of head_dim numbers becomes bytes, and back.
//
// One scheme for K and V, k<b>v<b>: subtract the mean over the segment (per layer and head, sinks
// excluded) -> fixed random signs -> orthonormal Walsh-Hadamard over head_dim -> per-token scale
// (u8 of the plane's maximum) -> b-bit code. Points that are best for N(0,1): of any for b <= 4
// (Lloyd-Max), of those that bytes hold for b = 5 and 6; uniform for b = 8 (TurboQuant, arXiv
// 2504.19874, section 3, with mean removal and an unbiased scale added).
// `paper` is PolyKV as published (arXiv 2604.24971); f16 and f32 are references.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "ipc/result.h"

namespace polykv {

// How one plane is coded. Stored in segments: never renumber.
enum class PlaneCodec : uint16_t {
  f32 = 1,
  f16 = 2,
  rot2 = 18,  // mean, signs, Hadamard, scale, 2-bit code; likewise the next ones
  rot3 = 19,
  rot4 = 20,
  rot5 = 21,
  rot6 = 22,
  rot8 = 24,
  paper_k8 = 40,  // int8, one scale for all heads of a layer
  paper_v3 = 41,  // f32 norm, Hadamard without signs, 3-bit code stored in a byte
};

struct CodecSpec {
  PlaneCodec k = PlaneCodec::rot4;
  PlaneCodec v = PlaneCodec::rot4;
  bool operator==(const CodecSpec&) const = default;
};

inline constexpr uint32_t kTileRows = 64;   // tokens per tile of codes
inline constexpr uint32_t kSinkTokens = 4;  // first tokens of a context, kept exact
inline constexpr uint64_t kSignSeed = 0x706f6c796b763031;

// "k4v4", "k8v3", …, "f16", "f32", "paper". unknown_codec names the choices.
Result<CodecSpec> parse_codec(std::string_view name);
std::string codec_name(const CodecSpec& codec);

int code_bits(PlaneCodec codec);       // 2..8 for rot<b>, 0 otherwise
bool is_rotated(PlaneCodec codec);     // rot<b>
uint32_t sink_rows(PlaneCodec codec);  // kSinkTokens for rot<b>, 0 for the others

// Whether a codec costs so much (a KLD of 1e-3 and more) that what bfloat16 costs a prefill's
// attention (4e-5) is less than a tenth of it: K of 4 bits and fewer, or V of 3 and fewer.
bool is_coarse(const CodecSpec& codec);

// Code points in ascending order, [2^bits]: Lloyd-Max of N(0,1) for bits 2..4, next to it for 5 and
// 6 (docs/format.md, Points). For 8: (i - 128).
std::span<const float> code_book(int bits);
// What the points of 5, 6 and 8 bits are whole multiples of, at most 127 of them (at 8 bits 128);
// 0 for the others.
float code_step(int bits);

// +1 or -1 per dimension, [head_dim], from kSignSeed (docs/format.md). head_dim: 64, 128 or 256.
std::span<const float> sign_vector(uint32_t head_dim);

// In-place orthonormal Walsh-Hadamard transform, natural order; its own inverse. x: [n], n a power
// of 2.
void hadamard(float* x, uint32_t n);

}  // namespace polykv
