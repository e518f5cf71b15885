// The first checks of a mapped image: its header, and the checksum of its tables.
#pragma once

#include <span>
#include <string>

#include "model/image_format.h"
#include "model/sampler.h"

namespace polykv {

// bad_segment: "model image: <what>; pack the model again".
std::unexpected<Error> bad_image(const std::string& what, std::string value = {},
                                 std::string limit = {});
std::unexpected<Error> bad_image_value(const char* what, uint64_t found, uint64_t wanted);

// header is a private copy; image is the whole memory, at least a header long.
Status check_image_header(const ImageHeader& header, std::span<const std::byte> image);
SamplingOptions sampling_of(const StoredSampling& stored);

}  // namespace polykv
