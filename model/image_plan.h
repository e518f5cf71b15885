// Which tensors a model of a given configuration has, and how large each is: packing and mapping
// ask the same plan, so that an image either holds exactly these or is refused.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/image.h"
#include "model/image_format.h"

namespace polykv {

struct PlannedTensor {
  TensorRole role;
  uint16_t layer;    // kNoLayer where there is none
  std::string name;  // for messages
  uint32_t n_rows;
  uint32_t n_cols;
  bool is_vector;  // a norm or bias: n_rows is 1, stored as f32
};

// In the order of the image's tensor table. `config` must have passed check_config().
std::vector<PlannedTensor> image_plan(const ModelConfig& config);

// What is out of range, as a sentence with the value and the range; nullopt if all is well.
std::optional<std::string> check_config(const ModelConfig& config);

// Bytes of a weight's parts; nullopt if type, block, minimum and columns do not fit together.
struct WeightBytes {
  uint64_t values;
  uint64_t scales;
};
std::optional<WeightBytes> weight_bytes(const Weight& weight);

inline uint64_t image_align(uint64_t bytes) {
  return (bytes + kImageAlign - 1) / kImageAlign * kImageAlign;
}

}  // namespace polykv
