// Reads and checks the structure of a GGUF file (the format's description: ggml, docs/gguf.md).
#include "model/gguf_parse.h"

#include <algorithm>
#include <numeric>
#include <optional>

namespace polykv {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF", little-endian
constexpr uint64_t kEntriesMax =
    65536;  // keys, and tensors: bounds what a hostile file makes us hold
constexpr uint64_t kKeyBytesMax = 65535;
constexpr uint64_t kNameBytesMax = 255;
constexpr uint64_t kAlignmentMax = 1 << 20;
constexpr int kNestingMax = 4;

// Reads forward through the file; every read is checked against its end.
class Parser {
 public:
  Parser(std::span<const std::byte> file, const std::string& path) : file_(file), path_(path) {}
  Result<GgufContents> run();

 private:
  std::unexpected<Error> bad(const std::string& what, std::string value = {},
                             std::string limit = {}) const {
    return fail(ErrorCode::bad_model_file,
                cat("model file ", path_, ": ", what, " (at byte ", at_, ")"), std::move(value),
                std::move(limit));
  }
  uint64_t left() const { return file_.size() - at_; }
  Result<std::span<const std::byte>> take(uint64_t bytes, const char* what);
  template <class T>
  Result<T> number(const char* what);
  Result<std::string_view> text(const char* what, uint64_t bytes_max);
  Result<GgufKind> kind(std::string_view key);
  Status header();
  Result<uint64_t> count(const char* what, uint64_t bytes_min);
  Result<GgufValue> value(std::string_view key, GgufKind kind, int depth);
  Result<GgufValue> array(std::string_view key, int depth);
  Status skip_items(std::string_view key, const GgufValue& array, int depth);
  Status metadata();
  Result<FileTensor> tensor();
  Status tensor_shape(FileTensor& tensor);
  Status tensor_type(FileTensor& tensor);
  Status alignment();
  Status place_tensors();
  Status place(FileTensor& tensor, uint64_t offset, uint64_t data_start);
  Status check_overlap() const;
  Status check_names() const;

  std::span<const std::byte> file_;
  const std::string& path_;
  uint64_t at_ = 0;
  uint64_t n_values_ = 0, n_tensors_ = 0;
  uint64_t alignment_ = 32;
  std::vector<uint64_t> offsets_;  // of tensors, as written in the file
  GgufContents out_;
};

Result<std::span<const std::byte>> Parser::take(uint64_t bytes, const char* what) {
  if (bytes > left()) {
    return bad(cat("the file ends inside ", what, ": needs ", bytes, " bytes, ", left(),
                   " are left; it is cut short or corrupt, fetch it again"),
               std::to_string(bytes), std::to_string(left()));
  }
  const auto taken = file_.subspan(at_, bytes);
  at_ += bytes;
  return taken;
}

template <class T>
Result<T> Parser::number(const char* what) {
  auto bytes = take(sizeof(T), what);
  if (!bytes) return pass(bytes);
  T value;
  std::memcpy(&value, bytes->data(), sizeof(T));
  return value;
}

Result<std::string_view> Parser::text(const char* what, uint64_t bytes_max) {
  auto size = number<uint64_t>(what);
  if (!size) return pass(size);
  if (*size > bytes_max) {
    return bad(cat(what, " is ", *size, " bytes long; at most ", bytes_max), std::to_string(*size),
               std::to_string(bytes_max));
  }
  auto bytes = take(*size, what);
  if (!bytes) return pass(bytes);
  return std::string_view(reinterpret_cast<const char*>(bytes->data()), bytes->size());
}

Result<uint64_t> Parser::count(const char* what, uint64_t bytes_min) {
  auto n = number<uint64_t>(what);
  if (!n) return pass(n);
  const uint64_t limit = std::min(kEntriesMax, left() / bytes_min);
  if (*n <= limit) return n;
  return bad(cat(what, " is ", *n, "; this file can hold at most ", limit), std::to_string(*n),
             std::to_string(limit));
}

Status Parser::header() {
  auto magic = number<uint32_t>("the magic number");
  if (!magic) return pass(magic);
  if (*magic != kMagic) return bad("is not a GGUF file: it does not begin with \"GGUF\"");
  auto version = number<uint32_t>("the version");
  if (!version) return pass(version);
  if (const uint32_t swapped = __builtin_bswap32(*version); swapped == 2 || swapped == 3) {
    return fail(ErrorCode::unsupported_model,
                cat("model file ", path_, ": is big-endian GGUF (version ", swapped,
                    "); little-endian is supported: fetch or convert to that"),
                "big-endian", "little-endian");
  }
  if (*version != 2 && *version != 3) {
    return fail(ErrorCode::unsupported_model,
                cat("model file ", path_, ": GGUF version ", *version,
                    "; versions 2 and 3 (little-endian) are supported"),
                std::to_string(*version), "2, 3");
  }
  auto tensors = count("the number of tensors", 8 + 1 + 4 + 8 + 4 + 8);
  if (!tensors) return pass(tensors);
  n_tensors_ = *tensors;
  auto values = count("the number of metadata keys", 8 + 1 + 4 + 1);
  if (!values) return pass(values);
  n_values_ = *values;
  return {};
}

Result<GgufKind> Parser::kind(std::string_view key) {
  auto id = number<uint32_t>("a metadata type");
  if (!id) return pass(id);
  if (*id > static_cast<uint32_t>(GgufKind::f64)) {
    return bad(
        cat("metadata key ", printable(key), " has the unknown type ", *id, "; types are 0..12"),
        std::to_string(*id), "12");
  }
  return static_cast<GgufKind>(*id);
}

Result<GgufValue> Parser::value(std::string_view key, GgufKind kind, int depth) {
  if (kind == GgufKind::array) return array(key, depth);
  GgufValue out{kind, kind, 1, {}};
  if (kind == GgufKind::text) {
    auto content = text("a metadata text", file_.size());
    if (!content) return pass(content);
    out.bytes = std::as_bytes(std::span(*content));
    return out;
  }
  auto bytes = take(gguf_kind_bytes(kind), "a metadata value");
  if (!bytes) return pass(bytes);
  out.bytes = *bytes;
  return out;
}

Result<GgufValue> Parser::array(std::string_view key, int depth) {
  if (depth >= kNestingMax) {
    return bad(cat("metadata key ", printable(key), ": arrays nested deeper than ", kNestingMax),
               std::to_string(depth + 1), std::to_string(kNestingMax));
  }
  auto item = kind(key);
  if (!item) return pass(item);
  auto n = number<uint64_t>("an array's length");
  if (!n) return pass(n);
  const uint64_t least = *item == GgufKind::array  ? 12
                         : *item == GgufKind::text ? 8
                                                   : gguf_kind_bytes(*item);
  if (*n > left() / least) {
    return bad(cat("metadata key ", printable(key), ": an array of ", *n, " items does not fit; ",
                   left(), " bytes are left"),
               std::to_string(*n), std::to_string(left() / least));
  }
  GgufValue out{GgufKind::array, *item, *n, {}};
  const uint64_t start = at_;
  auto skipped = skip_items(key, out, depth);
  if (!skipped) return pass(skipped);
  out.bytes = file_.subspan(start, at_ - start);
  return out;
}

Status Parser::skip_items(std::string_view key, const GgufValue& array, int depth) {
  if (const size_t each = gguf_kind_bytes(array.item); each > 0) {
    at_ += each * array.count;  // fits: checked by the caller
    return {};
  }
  for (uint64_t i = 0; i < array.count; ++i) {
    auto item = value(key, array.item, depth + 1);
    if (!item) return pass(item);
  }
  return {};
}

Status Parser::metadata() {
  for (uint64_t i = 0; i < n_values_; ++i) {
    auto key = text("a metadata key", kKeyBytesMax);
    if (!key) return pass(key);
    auto key_kind = kind(*key);
    if (!key_kind) return pass(key_kind);
    auto content = value(*key, *key_kind, 0);
    if (!content) return pass(content);
    if (!out_.values.emplace(*key, *content).second) {
      return bad(cat("metadata key ", printable(*key), " appears twice"), printable(*key));
    }
  }
  return {};
}

Status Parser::tensor_shape(FileTensor& tensor) {
  auto n_dims = number<uint32_t>("a tensor's dimensions");
  if (!n_dims) return pass(n_dims);
  if (*n_dims < 1 || *n_dims > 4) {
    return bad(
        cat("tensor ", printable(tensor.name), " has ", *n_dims, " dimensions; 1 to 4 expected"),
        std::to_string(*n_dims), "4");
  }
  tensor.n_dims = *n_dims;
  tensor.shape.fill(1);
  for (uint32_t i = 0; i < *n_dims; ++i) {
    auto size = number<uint64_t>("a tensor's shape");
    if (!size) return pass(size);
    tensor.shape[i] = *size;
  }
  return {};
}

Status Parser::tensor_type(FileTensor& tensor) {
  auto id = number<uint32_t>("a tensor's type");
  if (!id) return pass(id);
  const GgufTypeInfo* type = gguf_type_info(*id);
  if (type == nullptr) {
    return bad(cat("tensor ", printable(tensor.name), " has the unknown type ", *id),
               std::to_string(*id));
  }
  if (type->block == 0) {
    return fail(
        ErrorCode::unsupported_model,
        cat("model file ", path_, ": tensor ", printable(tensor.name), " is ", type->name,
            "; supported are ", gguf_supported_types(), ": fetch or convert to one of these"),
        type->name, gguf_supported_types());
  }
  tensor.type = static_cast<GgufType>(*id);
  return {};
}

Result<FileTensor> Parser::tensor() {
  FileTensor out;
  auto name = text("a tensor's name", kNameBytesMax);
  if (!name) return pass(name);
  out.name = *name;
  auto shape = tensor_shape(out);
  if (!shape) return pass(shape);
  auto type = tensor_type(out);
  if (!type) return pass(type);
  auto offset = number<uint64_t>("a tensor's offset");
  if (!offset) return pass(offset);
  offsets_.push_back(*offset);
  return out;
}

Status Parser::alignment() {
  const auto found = out_.values.find("general.alignment");
  if (found == out_.values.end()) return {};
  uint32_t bytes = 0;
  if (found->second.kind != GgufKind::u32) return bad("general.alignment is not a u32");
  std::memcpy(&bytes, found->second.bytes.data(), sizeof bytes);
  if (bytes < 8 || bytes > kAlignmentMax || (bytes & (bytes - 1)) != 0) {
    return bad(cat("general.alignment is ", bytes, "; a power of two from 8 to ", kAlignmentMax,
                   " expected"),
               std::to_string(bytes), std::to_string(kAlignmentMax));
  }
  alignment_ = bytes;
  return {};
}

// Bytes of a tensor's data; nullopt if a dimension is 0, splits a block or the product overflows.
std::optional<uint64_t> data_bytes(const FileTensor& tensor) {
  const GgufTypeInfo& type = *gguf_type_info(static_cast<uint32_t>(tensor.type));
  if (tensor.shape[0] % type.block != 0) return std::nullopt;
  uint64_t bytes = type.bytes;
  for (size_t i = 0; i < tensor.shape.size(); ++i) {
    const uint64_t n = i == 0 ? tensor.shape[0] / type.block : tensor.shape[i];
    if (n == 0 || __builtin_mul_overflow(bytes, n, &bytes)) return std::nullopt;
  }
  return bytes;
}

Status Parser::place(FileTensor& tensor, uint64_t offset, uint64_t data_start) {
  const auto bytes = data_bytes(tensor);
  if (!bytes) {
    return bad(cat("tensor ", printable(tensor.name), " has the impossible shape ",
                   shape_text(std::span(tensor.shape).first(tensor.n_dims)), " for ",
                   gguf_type_name(tensor.type)),
               shape_text(tensor.shape));
  }
  if (offset % alignment_ != 0) {
    return bad(cat("tensor ", printable(tensor.name), " lies at offset ", offset,
                   ", not a multiple of the alignment ", alignment_),
               std::to_string(offset), std::to_string(alignment_));
  }
  const uint64_t room = data_start > file_.size() ? 0 : file_.size() - data_start;
  if (offset > room || *bytes > room - offset) {
    return bad(cat("tensor ", printable(tensor.name), " needs ", *bytes, " bytes at offset ",
                   offset, " but the file's tensor data is ", room,
                   " bytes; it is cut short or corrupt, fetch it again"),
               std::to_string(*bytes), std::to_string(room));
  }
  tensor.data = file_.subspan(data_start + offset, *bytes);
  return {};
}

Status Parser::place_tensors() {
  auto aligned = alignment();
  if (!aligned) return aligned;
  const uint64_t data_start = (at_ + alignment_ - 1) / alignment_ * alignment_;
  for (size_t i = 0; i < out_.tensors.size(); ++i) {
    auto placed = place(out_.tensors[i], offsets_[i], data_start);
    if (!placed) return placed;
  }
  return {};
}

// Indices of tensors in the order of a projection.
template <class Key>
std::vector<size_t> sorted_tensors(const std::vector<FileTensor>& tensors, Key key) {
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::sort(order, {}, [&](size_t i) { return key(tensors[i]); });
  return order;
}

Status Parser::check_overlap() const {
  const auto order = sorted_tensors(out_.tensors, [](const auto& t) { return t.data.data(); });
  for (size_t i = 1; i < order.size(); ++i) {
    const FileTensor& before = out_.tensors[order[i - 1]];
    const FileTensor& after = out_.tensors[order[i]];
    if (before.data.data() + before.data.size() <= after.data.data()) continue;
    return bad(cat("tensors ", printable(before.name), " and ", printable(after.name), " overlap"),
               printable(after.name));
  }
  return {};
}

Status Parser::check_names() const {
  const auto order = sorted_tensors(out_.tensors, [](const auto& t) { return t.name; });
  for (size_t i = 1; i < order.size(); ++i) {
    const FileTensor& tensor = out_.tensors[order[i]];
    if (out_.tensors[order[i - 1]].name != tensor.name) continue;
    return bad(cat("tensor ", printable(tensor.name), " appears twice"), printable(tensor.name));
  }
  return {};
}

Result<GgufContents> Parser::run() {
  auto read = header();
  if (read) read = metadata();
  if (!read) return pass(read);
  for (uint64_t i = 0; i < n_tensors_; ++i) {
    auto next = tensor();
    if (!next) return pass(next);
    out_.tensors.push_back(*next);
  }
  auto checked = check_names();
  if (checked) checked = place_tensors();
  if (checked) checked = check_overlap();
  if (!checked) return pass(checked);
  return std::move(out_);
}

}  // namespace

Result<GgufContents> parse_gguf(std::span<const std::byte> file, const std::string& path) {
  return Parser(file, path).run();
}

}  // namespace polykv
