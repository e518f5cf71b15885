// Magic, sizes, checksums, ranges: what can be said of an image by its header.
#include "model/image_check.h"

#include <algorithm>

#include "model/image_plan.h"
#include "model/pre_tokenizer.h"

namespace polykv {

std::unexpected<Error> bad_image(const std::string& what, std::string value, std::string limit) {
  return fail(ErrorCode::bad_segment, cat("model image: ", what, "; pack the model again"),
              std::move(value), std::move(limit));
}

std::unexpected<Error> bad_image_value(const char* what, uint64_t found, uint64_t wanted) {
  return bad_image(cat(what, " is ", found, ", expected ", wanted), std::to_string(found),
                   std::to_string(wanted));
}

SamplingOptions sampling_of(const StoredSampling& stored) {
  return {
      stored.temperature, stored.top_k, stored.top_p, stored.min_p, stored.repetition_penalty, 0};
}

namespace {

Status check_token(uint32_t token, const ImageHeader& header) {
  if (token < header.config.n_vocab) return {};
  return bad_image(
      cat("the special token ", token, " is past the vocabulary of ", header.config.n_vocab),
      std::to_string(token), std::to_string(header.config.n_vocab));
}

Status check_generation(const ImageHeader& header) {
  for (const uint32_t token : {header.bos, header.eos}) {
    if (token == kNoToken) continue;
    if (auto fine = check_token(token, header); !fine) return fine;
  }
  if (header.n_ends > kEndsMax) {
    return bad_image_value("the number of end tokens", header.n_ends, kEndsMax);
  }
  for (const uint32_t token : std::span(header.ends).first(header.n_ends)) {
    if (auto fine = check_token(token, header); !fine) return fine;
  }
  const auto sampling = check_sampling(sampling_of(header.sampling));
  if (!sampling) return bad_image(sampling.error().message);
  return {};
}

Status check_header(const ImageHeader& header, std::span<const std::byte> image) {
  if (header.magic != kImageMagic) return bad_image("the memory does not begin with \"PKVIMG\"");
  if (header.abi != kImageAbi) return bad_image_value("the format version", header.abi, kImageAbi);
  if (header.header_bytes != sizeof(ImageHeader)) {
    return bad_image_value("the header's size", header.header_bytes, sizeof(ImageHeader));
  }
  if (header.bytes != image.size()) return bad_image_value("the size", header.bytes, image.size());
  ImageHeader blank = header;
  blank.header_checksum = 0;
  const uint64_t sum = checksum64(std::as_bytes(std::span(&blank, 1)));
  if (header.header_checksum != sum) {
    return bad_image_value("the header's checksum", header.header_checksum, sum);
  }
  if (const auto problem = check_config(header.config)) return bad_image(*problem);
  if (header.pre_tokenizer < 1 || header.pre_tokenizer > kPreTokenizerLast) {
    return bad_image_value("the pre-tokenizer", header.pre_tokenizer, kPreTokenizerLast);
  }
  if ((header.tokenizer_flags & ~kTokenizerFlags) != 0) {
    return bad_image_value("the tokenizer's flags", header.tokenizer_flags, kTokenizerFlags);
  }
  return check_generation(header);
}

Status check_tables_sum(const ImageHeader& header, std::span<const std::byte> image) {
  const uint64_t begin = header.weights_begin;
  if (begin % kImageAlign != 0 || begin < sizeof(ImageHeader) || begin > image.size()) {
    return bad_image(cat("the weights begin at ", begin, " of ", image.size(), " bytes"),
                     std::to_string(begin), std::to_string(image.size()));
  }
  const auto tables = image.subspan(sizeof(ImageHeader), begin - sizeof(ImageHeader));
  const uint64_t sum = checksum64(tables);
  if (sum == header.tables_checksum) return {};
  return bad_image_value("the tables' checksum", header.tables_checksum, sum);
}

// Reserved fields may mean something one day: an image that uses them is not for this build.
Status check_reserved(const ImageHeader& header) {
  const auto is_zero = [](const uint8_t byte) { return byte == 0; };
  if (std::ranges::all_of(header.reserved0, is_zero) &&
      std::ranges::all_of(header.reserved1, is_zero)) {
    return {};
  }
  return bad_image("a reserved field of the header is not 0");
}

}  // namespace

Status check_image_header(const ImageHeader& header, std::span<const std::byte> image) {
  auto checked = check_header(header, image);
  if (checked) checked = check_reserved(header);
  return checked ? check_tables_sum(header, image) : checked;
}

}  // namespace polykv
