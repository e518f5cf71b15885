// Typed access to a GGUF file's metadata and tensors.
#include "model/gguf.h"

#include <algorithm>
#include <optional>

#include "model/gguf_parse.h"
#include "model/mapped_file.h"

namespace polykv {

struct GgufFile::State {
  std::string path;
  MappedFile file;
  GgufContents contents;

  std::unexpected<Error> bad(std::string_view key, const std::string& what) const {
    return fail(ErrorCode::bad_model_file,
                cat("model file ", path, ": metadata key ", printable(key), ' ', what),
                std::string(key));
  }
  Result<const GgufValue*> find(std::string_view key) const {
    const auto found = contents.values.find(key);
    if (found == contents.values.end()) return bad(key, "is missing");
    return &found->second;
  }
};

namespace {

template <class T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

// An integer of any width; nullopt if it is no integer or does not fit.
std::optional<int64_t> load_integer(GgufKind kind, const std::byte* at) {
  switch (kind) {
    case GgufKind::u8:
      return load<uint8_t>(at);
    case GgufKind::i8:
      return load<int8_t>(at);
    case GgufKind::u16:
      return load<uint16_t>(at);
    case GgufKind::i16:
      return load<int16_t>(at);
    case GgufKind::u32:
      return load<uint32_t>(at);
    case GgufKind::i32:
      return load<int32_t>(at);
    case GgufKind::i64:
      return load<int64_t>(at);
    case GgufKind::u64: {
      const auto value = load<uint64_t>(at);
      if (value > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    default:
      return std::nullopt;
  }
}

std::optional<double> load_number(GgufKind kind, const std::byte* at) {
  if (kind == GgufKind::f32) return static_cast<double>(load<float>(at));
  if (kind == GgufKind::f64) return load<double>(at);
  if (const auto whole = load_integer(kind, at)) return static_cast<double>(*whole);
  return std::nullopt;
}

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

std::string shape_text(std::span<const uint64_t> shape) {
  std::string out = "[";
  for (const uint64_t n : shape) out += (out.size() > 1 ? ", " : "") + std::to_string(n);
  return out + "]";
}

std::string printable(std::string_view text) {
  constexpr size_t kShown = 80;
  constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text.substr(0, kShown)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && c != '"') {
      out += c;
    } else {
      out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return out + (text.size() > kShown ? "…\"" : "\"");
}

Result<GgufFile> GgufFile::open(const std::string& path) {
  auto file = MappedFile::open(path);
  if (!file) return pass(file);
  auto contents = parse_gguf(file->bytes(), path);
  if (!contents) return pass(contents);
  return GgufFile(std::make_unique<State>(State{path, std::move(*file), std::move(*contents)}));
}

const std::string& GgufFile::path() const { return state_->path; }

bool GgufFile::has(std::string_view key) const { return state_->contents.values.contains(key); }

Result<std::string_view> GgufFile::text(std::string_view key) const {
  auto value = state_->find(key);
  if (!value) return pass(value);
  if ((*value)->kind == GgufKind::text) return as_text((*value)->bytes);
  return state_->bad(key, cat("is of type ", gguf_kind_name((*value)->kind), ", not text"));
}

Result<uint64_t> GgufFile::integer(std::string_view key) const {
  auto value = state_->find(key);
  if (!value) return pass(value);
  const auto number = load_integer((*value)->kind, (*value)->bytes.data());
  if (number && *number >= 0) return static_cast<uint64_t>(*number);
  return state_->bad(
      key, cat("(type ", gguf_kind_name((*value)->kind), ") is not a whole number from 0 up"));
}

Result<double> GgufFile::number(std::string_view key) const {
  auto value = state_->find(key);
  if (!value) return pass(value);
  const GgufKind kind = (*value)->kind;
  if (const auto number = load_number(kind, (*value)->bytes.data())) return *number;
  return state_->bad(key, cat("is of type ", gguf_kind_name(kind), ", not a number"));
}

Result<bool> GgufFile::flag(std::string_view key) const {
  auto value = state_->find(key);
  if (!value) return pass(value);
  const std::byte* at = (*value)->bytes.data();
  if ((*value)->kind == GgufKind::boolean && load<uint8_t>(at) <= 1) return load<uint8_t>(at) == 1;
  return state_->bad(key, cat("(type ", gguf_kind_name((*value)->kind), ") is not true or false"));
}

Result<std::vector<std::string_view>> GgufFile::texts(std::string_view key) const {
  auto value = state_->find(key);
  if (!value) return pass(value);
  if ((*value)->kind != GgufKind::array || (*value)->item != GgufKind::text) {
    return state_->bad(key,
                       cat("is of type ", gguf_kind_name((*value)->kind), ", not a list of texts"));
  }
  std::vector<std::string_view> out;
  out.reserve((*value)->count);
  const std::byte* at = (*value)->bytes.data();  // lengths were checked when the file was opened
  for (uint64_t i = 0; i < (*value)->count; ++i) {
    const auto size = load<uint64_t>(at);
    out.push_back(as_text({at + sizeof size, size}));
    at += sizeof size + size;
  }
  return out;
}

Result<std::vector<int64_t>> GgufFile::integers(std::string_view key) const {
  auto value = state_->find(key);
  if (!value) return pass(value);
  const size_t each = gguf_kind_bytes((*value)->item);
  std::vector<int64_t> out;
  if ((*value)->kind == GgufKind::array) out.reserve((*value)->count);
  for (uint64_t i = 0; (*value)->kind == GgufKind::array && i < (*value)->count; ++i) {
    const auto number = load_integer((*value)->item, (*value)->bytes.data() + i * each);
    if (!number) break;
    out.push_back(*number);
  }
  if ((*value)->kind == GgufKind::array && out.size() == (*value)->count) return out;
  return state_->bad(key, "is not a list of whole numbers");
}

Result<std::vector<double>> GgufFile::numbers(std::string_view key) const {
  auto value = state_->find(key);
  if (!value) return pass(value);
  const size_t each = gguf_kind_bytes((*value)->item);
  std::vector<double> out;
  for (uint64_t i = 0; (*value)->kind == GgufKind::array && i < (*value)->count; ++i) {
    const auto number = load_number((*value)->item, (*value)->bytes.data() + i * each);
    if (!number) break;
    out.push_back(*number);
  }
  if ((*value)->kind == GgufKind::array && out.size() == (*value)->count) return out;
  return state_->bad(key, "is not a list of numbers");
}

bool GgufFile::is_list(std::string_view key) const {
  auto value = state_->find(key);
  return value && (*value)->kind == GgufKind::array;
}

Result<std::vector<bool>> GgufFile::flags(std::string_view key) const {
  auto value = state_->find(key);
  if (!value) return pass(value);
  std::vector<bool> out;
  if ((*value)->kind == GgufKind::array && (*value)->item == GgufKind::boolean) {
    for (uint64_t i = 0; i < (*value)->count; ++i) {
      out.push_back((*value)->bytes[i] != std::byte{0});
    }
    return out;
  }
  auto numbers = integers(key);
  if (!numbers) return pass(numbers);
  for (const int64_t number : *numbers) out.push_back(number != 0);
  return out;
}

const FileTensor* GgufFile::tensor(std::string_view name) const {
  const auto found = std::ranges::find(state_->contents.tensors, name, &FileTensor::name);
  return found == state_->contents.tensors.end() ? nullptr : &*found;
}

std::span<const FileTensor> GgufFile::tensors() const { return state_->contents.tensors; }

GgufFile::GgufFile(std::unique_ptr<State> state) : state_(std::move(state)) {}
GgufFile::GgufFile(GgufFile&&) noexcept = default;
GgufFile& GgufFile::operator=(GgufFile&&) noexcept = default;
GgufFile::~GgufFile() = default;

}  // namespace polykv
