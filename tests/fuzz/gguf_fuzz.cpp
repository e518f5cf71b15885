// GGUF: the structure, every key by every getter, then the file as a model up to its image.
#include "model/gguf_parse.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/model_checks.h"

using namespace polykv;

namespace {

void check_key(const GgufFile& file, std::string_view key, const GgufValue& value) {
  const auto integer = file.integer(key);
  const auto number = file.number(key);
  check(!integer || number, "a whole number is a number");
  check(file.text(key).has_value() == (value.kind == GgufKind::text), "texts are texts");
  check(!file.flag(key) || value.kind == GgufKind::boolean, "flags are flags");
  const auto texts = file.texts(key);
  check(!texts || texts->size() == value.count, "a list has as many texts as it says");
  const auto integers = file.integers(key);
  check(!integers || integers->size() == value.count, "a list has as many numbers as it says");
  const auto numbers = file.numbers(key);
  check(!integers || numbers.has_value(), "whole numbers are numbers");
  for (const Error& error : {integer ? Error() : integer.error()}) {
    if (!error.message.empty()) fuzz::check_model_refusal(error);
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A copy of exactly the right size, so that the sanitizer sees every read past its end.
  const std::vector<uint8_t> exact(data, data + size);
  const auto bytes = std::as_bytes(std::span(exact));
  const auto contents = parse_gguf(bytes, "fuzz.gguf");
  if (!contents) {
    fuzz::check_model_refusal(contents.error());
    return 0;
  }
  fuzz::check_tensors(contents->tensors, bytes);
  const fuzz::MemoryFile on_disk(fuzz::text_of(data, size));
  const auto file = GgufFile::open(on_disk.path());
  check(file.has_value(), "what parses opens");
  for (const auto& [key, value] : contents->values) check_key(*file, key, value);
  const auto model = open_gguf_model(on_disk.path());
  if (model) {
    fuzz::check_model(**model, on_disk.path());
  } else {
    fuzz::check_model_refusal(model.error());
  }
  return 0;
}
