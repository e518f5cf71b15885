// safetensors: the table of tensors and where they lie.
#include "model/safetensors.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/model_checks.h"

using namespace polykv;

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::vector<uint8_t> exact(data, data + size);
  const auto bytes = std::as_bytes(std::span(exact));
  std::vector<std::string> names;
  const auto tensors = parse_safetensors(bytes, "fuzz.safetensors", names);
  if (tensors) {
    fuzz::check_tensors(*tensors, bytes);
  } else {
    fuzz::check_model_refusal(tensors.error());
  }
  const fuzz::MemoryFile on_disk(fuzz::text_of(data, size));
  const auto file = SafetensorsFile::open(on_disk.path());
  check(file.has_value() == tensors.has_value(), "a file is judged as its bytes are");
  check(!file || file->tensors().size() == tensors->size(), "a file has the same tensors");
  return 0;
}
