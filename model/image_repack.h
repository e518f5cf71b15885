// One GGUF tensor into one of the image's weight forms, straight from mapped file to shared memory.
#pragma once

#include <span>

#include "model/gguf.h"
#include "model/image.h"
#include "model/image_blocks.h"
#include "model/image_plan.h"

namespace polykv {

// The form that a tensor takes in the image. bad_model_file if its shape is not the planned one
// (both are named); unsupported_model if a norm is quantised.
Result<Weight> packed_form(const FileTensor& tensor, const PlannedTensor& planned);

// Fills values and scales, which are zero and of weight_bytes() of the form, with the tensor's rows
// [rows.begin, rows.end): both are multiples of kGroupRows or the last, so that no two calls write
// the same byte. bad_model_file if a number is not finite.
Status repack(const FileTensor& tensor, const Weight& form, RowRange rows,
              std::span<std::byte> values, std::span<std::byte> scales);

// Bytes of a tensor's row in the file.
uint64_t file_row_bytes(const FileTensor& tensor, const Weight& form);

}  // namespace polykv
