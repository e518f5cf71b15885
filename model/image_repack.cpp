// GGUF tensors to the image's weight forms: shapes, types, and the rows that have no blocks.
#include "model/image_repack.h"

#include <cstring>

#include "ipc/half.h"
#include "model/image_blocks.h"

namespace polykv {
namespace {

uint16_t load_half(const std::byte* at) {
  uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return bits;
}

bool half_is_finite(uint16_t bits) { return (bits & 0x7c00) != 0x7c00; }

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

bool copy_bf16(std::span<const std::byte> from, bool widen, std::byte* to) {
  for (uint64_t i = 0; i < from.size() / 2; ++i) {
    const uint16_t bits = load_half(from.data() + 2 * i);
    if ((bits & 0x7f80) == 0x7f80) return false;
    const uint32_t wide = uint32_t{bits} << 16;
    if (widen) {
      std::memcpy(to + 4 * i, &wide, 4);
    } else {
      std::memcpy(to + 2 * i, &bits, 2);
    }
  }
  return true;
}

Status check_shape(const FileTensor& tensor, const PlannedTensor& planned) {
  const bool same = tensor.shape[0] == planned.n_cols && tensor.shape[1] == planned.n_rows &&
                    tensor.shape[2] == 1 && tensor.shape[3] == 1;
  if (same) return {};
  const auto found = shape_text(std::span(tensor.shape).first(tensor.n_dims));
  const uint64_t wanted[2] = {planned.n_cols, planned.n_rows};
  const auto expected = shape_text(std::span(wanted).first(planned.is_vector ? 1 : 2));
  return fail(ErrorCode::bad_model_file,
              cat("tensor ", printable(tensor.name), " has the shape ", found,
                  " but the file's configuration asks for ", expected),
              found, expected);
}

bool copy_rows(const FileTensor& tensor, const Weight& form, RowRange rows, BlockTarget to) {
  if (const BlockForm* blocks = block_form(tensor.type)) {
    return copy_blocks(tensor, *blocks, form, rows, to);
  }
  const bool widen = form.type == WeightType::f32;
  const uint64_t bytes = file_row_bytes(tensor, form);
  const auto from = tensor.data.subspan(rows.begin * bytes, (rows.end - rows.begin) * bytes);
  std::byte* values = to.values + uint64_t{rows.begin} * form.n_cols * (widen ? 4 : 2);
  if (tensor.type == GgufType::f32) return copy_f32(from, !widen, values);
  if (tensor.type == GgufType::f16) return copy_f16(from, widen, values);
  return copy_bf16(from, widen, values);
}

}  // namespace

Result<Weight> packed_form(const FileTensor& tensor, const PlannedTensor& planned) {
  auto same = check_shape(tensor, planned);
  if (!same) return pass(same);
  Weight form;
  form.n_rows = planned.n_rows;
  form.n_cols = planned.n_cols;
  const BlockForm* blocks = block_form(tensor.type);
  if (planned.is_vector) {
    if (blocks == nullptr) return form;
    return fail(ErrorCode::unsupported_model,
                cat("tensor ", printable(tensor.name), " is a norm or a bias of type ",
                    gguf_type_name(tensor.type), "; F32, F16 or BF16 expected"),
                gguf_type_name(tensor.type), "F32, F16, BF16");
  }
  if (blocks != nullptr) {
    form.type = blocks->type;
    form.block = blocks->block;
    form.has_min = blocks->has_min;
  } else {
    form.type = tensor.type == GgufType::f16 ? WeightType::f16 : WeightType::bf16;
  }
  return form;
}

uint64_t file_row_bytes(const FileTensor& tensor, const Weight& form) {
  return tensor.data.size() / form.n_rows;  // whole: check_shape() has compared them
}

Status repack(const FileTensor& tensor, const Weight& form, RowRange rows,
              std::span<std::byte> values, std::span<std::byte> scales) {
  const auto bytes = weight_bytes(form);
  check(bytes && values.size() == bytes->values && scales.size() == bytes->scales,
        "repack: the target has the size of the form");
  if (copy_rows(tensor, form, rows, {values.data(), scales.data()})) return {};
  return fail(ErrorCode::bad_model_file,
              cat("tensor ", printable(tensor.name), " (", gguf_type_name(tensor.type),
                  ") holds a number that is infinite, not a number or out of range"),
              printable(tensor.name));
}

}  // namespace polykv
