// GGUF blocks to w4, w8, f16, bf16 and f32. The nibble order of Q4_0 and Q4_1 is that of w4.
#include "model/image_repack.h"

#include <bit>
#include <cstring>

#include "ipc/half.h"

namespace polykv {
namespace {

constexpr uint64_t kBlock = 32;

uint16_t load_half(const std::byte* at) {
  uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return bits;
}

bool half_is_finite(uint16_t bits) { return (bits & 0x7c00) != 0x7c00; }

// Where a block's parts go; the return value of each copier says whether its numbers are finite.
struct Target {
  std::byte* values;
  std::byte* scales;
};

bool copy_q4_0(const std::byte* block, Target to) {
  const uint16_t d = load_half(block);
  const float minimum =
      -8 * half_to_float(d);  // w = d*(q - 8); exact in f16 unless it is too large
  if (!half_is_finite(d) || minimum > 65504 || minimum < -65504) return false;
  const uint16_t scales[2] = {d, float_to_half(minimum)};
  std::memcpy(to.scales, scales, sizeof scales);
  std::memcpy(to.values, block + 2, 16);
  return true;
}

bool copy_q4_1(const std::byte* block, Target to) {
  std::memcpy(to.scales, block, 4);
  std::memcpy(to.values, block + 4, 16);
  return half_is_finite(load_half(block)) && half_is_finite(load_half(block + 2));
}

bool copy_q8_0(const std::byte* block, Target to) {
  std::memcpy(to.scales, block, 2);
  std::memcpy(to.values, block + 2, 32);
  return half_is_finite(load_half(block));
}

struct BlockForm {
  bool (*copy)(const std::byte*, Target);
  uint64_t bytes;  // in the file
  uint64_t values;
  uint64_t scales;
};

bool repack_blocks(const GgufTensor& tensor, const BlockForm& form, Target to) {
  const uint64_t n_blocks = tensor.data.size() / form.bytes;
  for (uint64_t i = 0; i < n_blocks; ++i) {
    const Target at{to.values + i * form.values, to.scales + i * form.scales};
    if (!form.copy(tensor.data.data() + i * form.bytes, at)) return false;
  }
  return true;
}

// Round to nearest, ties to even. `bits` is finite.
uint16_t to_bf16(uint32_t bits) {
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

bool copy_f32(std::span<const std::byte> from, bool to_bfloat, std::byte* to) {
  for (uint64_t i = 0; i < from.size() / 4; ++i) {
    uint32_t bits;
    std::memcpy(&bits, from.data() + 4 * i, 4);
    if ((bits & 0x7f800000) == 0x7f800000) return false;
    const uint16_t half = to_bf16(bits);
    if (to_bfloat && (half & 0x7f80) == 0x7f80) return false;  // rounded past the largest bf16
    if (to_bfloat) {
      std::memcpy(to + 2 * i, &half, 2);
    } else {
      std::memcpy(to + 4 * i, &bits, 4);
    }
  }
  return true;
}

bool copy_f16(std::span<const std::byte> from, bool widen, std::byte* to) {
  for (uint64_t i = 0; i < from.size() / 2; ++i) {
    const uint16_t bits = load_half(from.data() + 2 * i);
    if (!half_is_finite(bits)) return false;
    const float wide = half_to_float(bits);
    if (widen) {
      std::memcpy(to + 4 * i, &wide, 4);
    } else {
      std::memcpy(to + 2 * i, &bits, 2);
    }
  }
  return true;
}

Status check_shape(const GgufTensor& tensor, const PlannedTensor& planned) {
  const bool same = tensor.shape[0] == planned.n_cols && tensor.shape[1] == planned.n_rows &&
                    tensor.shape[2] == 1 && tensor.shape[3] == 1;
  if (same) return {};
  const auto found = shape_text(std::span(tensor.shape).first(tensor.n_dims));
  const uint64_t wanted[2] = {planned.n_cols, planned.n_rows};
  const auto expected = shape_text(std::span(wanted).first(planned.is_vector ? 1 : 2));
  return fail(ErrorCode::bad_model_file,
              cat("tensor ", planned.file_name, " has the shape ", found,
                  " but the file's configuration asks for ", expected),
              found, expected);
}

bool copy_all(const GgufTensor& tensor, const Weight& form, Target to) {
  switch (tensor.type) {
    case GgufType::q4_0:
      return repack_blocks(tensor, {copy_q4_0, 18, 16, 4}, to);
    case GgufType::q4_1:
      return repack_blocks(tensor, {copy_q4_1, 20, 16, 4}, to);
    case GgufType::q8_0:
      return repack_blocks(tensor, {copy_q8_0, 34, 32, 2}, to);
    case GgufType::f32:
      return copy_f32(tensor.data, form.type == WeightType::bf16, to.values);
    case GgufType::f16:
      return copy_f16(tensor.data, form.type == WeightType::f32, to.values);
  }
  return false;
}

}  // namespace

Result<Weight> packed_form(const GgufTensor& tensor, const PlannedTensor& planned) {
  auto same = check_shape(tensor, planned);
  if (!same) return pass(same);
  Weight form;
  form.n_rows = planned.n_rows;
  form.n_cols = planned.n_cols;
  const bool quantised = tensor.type != GgufType::f32 && tensor.type != GgufType::f16;
  if (planned.is_vector) {
    if (!quantised) return form;
    return fail(ErrorCode::unsupported_model,
                cat("tensor ", planned.file_name, " is a norm of type ",
                    gguf_type_name(tensor.type), "; F32 or F16 expected"),
                gguf_type_name(tensor.type), "F32, F16");
  }
  form.type = tensor.type == GgufType::f32    ? WeightType::bf16
              : tensor.type == GgufType::f16  ? WeightType::f16
              : tensor.type == GgufType::q8_0 ? WeightType::w8
                                              : WeightType::w4;
  form.block = quantised ? kBlock : 0;
  form.has_min = form.type == WeightType::w4 ? 1 : 0;
  return form;
}

Status repack(const GgufTensor& tensor, const Weight& form, std::span<std::byte> values,
              std::span<std::byte> scales) {
  const auto bytes = weight_bytes(form);
  check(bytes && values.size() == bytes->values && scales.size() == bytes->scales,
        "repack: the target has the size of the form");
  if (copy_all(tensor, form, {values.data(), scales.data()})) return {};
  return fail(ErrorCode::bad_model_file,
              cat("tensor ", printable(tensor.name), " (", gguf_type_name(tensor.type),
                  ") holds a number that is infinite, not a number or out of range"),
              printable(tensor.name));
}

}  // namespace polykv
