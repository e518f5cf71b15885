// The table of a safetensors file, checked against its bytes.
#include "model/safetensors.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "model/json.h"

namespace polykv {
namespace {

constexpr uint64_t kTableMax = uint64_t{100} << 20;  // the format's own limit
constexpr double kSafeInteger = 9007199254740992;

class Table {
 public:
  Table(std::span<const std::byte> file, const std::string& path) : file_(file), path_(path) {}
  Result<std::vector<FileTensor>> run(std::vector<std::string>& names);

 private:
  std::unexpected<Error> bad(const std::string& what, std::string value) const {
    return fail(ErrorCode::bad_model_file, cat("model file ", path_, ": ", what), std::move(value));
  }
  Result<Json> table();
  Result<FileTensor> tensor(std::string_view name, const Json& entry) const;
  Status shape(std::string_view name, const Json& entry, FileTensor& out) const;
  Result<GgufType> type(std::string_view name, const Json& entry) const;
  Status bytes(std::string_view name, const Json& entry, FileTensor& out) const;
  Status check_overlaps(std::vector<FileTensor> tensors) const;

  std::span<const std::byte> file_;
  const std::string& path_;
  std::span<const std::byte> data_;  // behind the table
};

std::optional<uint64_t> whole(const Json& item) {
  const double* number = item.number();
  if (number == nullptr || *number < 0 || *number >= kSafeInteger) return std::nullopt;
  if (std::floor(*number) != *number) return std::nullopt;
  return static_cast<uint64_t>(*number);
}

Result<Json> Table::table() {
  uint64_t size = 0;
  if (file_.size() < sizeof size) return bad("is too short for a safetensors file", path_);
  std::memcpy(&size, file_.data(), sizeof size);
  if (size > kTableMax || size > file_.size() - sizeof size) {
    return bad(cat("its table of tensors has ", size, " bytes, the file ", file_.size(),
                   "; expected a safetensors file"),
               std::to_string(size));
  }
  data_ = file_.subspan(sizeof size + size);
  const auto text = file_.subspan(sizeof size, size);
  return Json::parse({reinterpret_cast<const char*>(text.data()), text.size()},
                     cat("model file ", path_));
}

Result<GgufType> Table::type(std::string_view name, const Json& entry) const {
  const std::string_view said = entry.text_of("dtype");
  if (said == "F32") return GgufType::f32;
  if (said == "F16") return GgufType::f16;
  if (said == "BF16") return GgufType::bf16;
  return fail(ErrorCode::unsupported_model,
              cat("model file ", path_, ": tensor ", printable(name), " is of the type ",
                  printable(said), "; supported are F32, F16 and BF16"),
              printable(said), "F32, F16, BF16");
}

// The file lists the outermost dimension first.
Status Table::shape(std::string_view name, const Json& entry, FileTensor& out) const {
  const Json* shape = entry.find("shape");
  const Json::List* sizes = shape == nullptr ? nullptr : shape->list();
  if (sizes == nullptr || sizes->empty() || sizes->size() > out.shape.size()) {
    return bad(cat("tensor ", printable(name), " has no shape of 1 to 4 dimensions"),
               printable(name));
  }
  out.n_dims = static_cast<uint32_t>(sizes->size());
  out.shape.fill(1);
  for (size_t i = 0; i < sizes->size(); ++i) {
    const auto size = whole((*sizes)[i]);
    if (!size || *size == 0 || *size > UINT32_MAX) {
      return bad(cat("tensor ", printable(name), " has an absurd shape"), printable(name));
    }
    out.shape[sizes->size() - 1 - i] = *size;
  }
  return {};
}

Status Table::bytes(std::string_view name, const Json& entry, FileTensor& out) const {
  const Json* offsets = entry.find("data_offsets");
  const Json::List* pair = offsets == nullptr ? nullptr : offsets->list();
  std::optional<uint64_t> begin, end;
  if (pair != nullptr && pair->size() == 2) begin = whole((*pair)[0]), end = whole((*pair)[1]);
  if (!begin || !end || *begin > *end || *end > data_.size()) {
    return bad(cat("tensor ", printable(name), " does not lie within the file"), printable(name));
  }
  uint64_t wanted = out.type == GgufType::f32 ? 4 : 2;
  for (const uint64_t size : out.shape) {
    if (wanted > data_.size() / size) {
      return bad(cat("tensor ", printable(name), " is larger than the file"), printable(name));
    }
    wanted *= size;
  }
  if (wanted != *end - *begin) {
    return bad(cat("tensor ", printable(name), " has ", *end - *begin,
                   " bytes, its shape asks for ", wanted),
               printable(name));
  }
  out.data = data_.subspan(*begin, wanted);
  return {};
}

Result<FileTensor> Table::tensor(std::string_view name, const Json& entry) const {
  FileTensor out;
  out.name = name;
  auto type = this->type(name, entry);
  if (!type) return pass(type);
  out.type = *type;
  auto done = shape(name, entry, out);
  if (done) done = bytes(name, entry, out);
  if (!done) return pass(done);
  return out;
}

Status Table::check_overlaps(std::vector<FileTensor> tensors) const {
  std::ranges::sort(tensors, {}, [](const FileTensor& t) { return t.data.data(); });
  for (size_t i = 1; i < tensors.size(); ++i) {
    const FileTensor& before = tensors[i - 1];
    if (before.data.data() + before.data.size() <= tensors[i].data.data()) continue;
    return bad(cat("the tensors ", printable(before.name), " and ", printable(tensors[i].name),
                   " overlap"),
               printable(before.name));
  }
  return {};
}

Result<std::vector<FileTensor>> Table::run(std::vector<std::string>& names) {
  auto table = this->table();
  if (!table) return pass(table);
  if (table->fields() == nullptr) return bad("its table of tensors is no JSON object", path_);
  names.reserve(table->fields()->size());
  std::vector<FileTensor> out;
  for (const auto& [name, entry] : *table->fields()) {
    if (name == "__metadata__") continue;
    auto read = tensor(names.emplace_back(name), entry);
    if (!read) return pass(read);
    out.push_back(*read);
  }
  auto apart = check_overlaps(out);
  if (!apart) return pass(apart);
  return out;
}

}  // namespace

Result<std::vector<FileTensor>> parse_safetensors(std::span<const std::byte> file,
                                                  const std::string& path,
                                                  std::vector<std::string>& names) {
  return Table(file, path).run(names);
}

Result<SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  auto mapped = MappedFile::open(path);
  if (!mapped) return pass(mapped);
  SafetensorsFile file(std::move(*mapped));
  auto tensors = parse_safetensors(file.file_.bytes(), path, file.names_);
  if (!tensors) return pass(tensors);
  file.tensors_ = std::move(*tensors);
  return file;
}

}  // namespace polykv
