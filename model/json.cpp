// A tree built event by event, so that its limits hold while it grows. The only file here that sees
// nlohmann-json.
#include "model/json.h"

#include <nlohmann/json.hpp>
#include <unordered_set>

#include "model/gguf.h"

namespace polykv {
namespace {

constexpr size_t kDepthMax = 32;
constexpr size_t kBytesMax = size_t{256} << 20;

class TreeBuilder final : public nlohmann::json_sax<nlohmann::json> {
 public:
  Json root;
  std::string complaint;

  bool null() override { return put(std::monostate()); }
  bool boolean(bool v) override { return put(v); }
  bool number_integer(number_integer_t v) override { return put(static_cast<double>(v)); }
  bool number_unsigned(number_unsigned_t v) override { return put(static_cast<double>(v)); }
  bool number_float(number_float_t v, const string_t&) override { return put(v); }
  bool string(string_t& v) override { return put(std::move(v)); }
  bool binary(binary_t&) override { return complain("binary data"); }
  bool start_object(std::size_t) override { return open(Json::Fields()); }
  bool start_array(std::size_t) override { return open(Json::List()); }
  bool end_object() override { return end_array(); }
  bool end_array() override {
    open_.pop_back();
    names_.pop_back();
    return true;
  }
  bool key(string_t& name) override {
    if (!names_.back().insert(name).second)
      return complain(cat("the name ", printable(name), " twice"));
    std::get<Json::Fields>(open_.back()->value).push_back({name, Json()});
    return true;
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::json::exception&) override {
    return complain(cat("malformed JSON at byte ", position));
  }

 private:
  bool complain(std::string what) {
    complaint = std::move(what);
    return false;
  }
  // Where the next value goes.
  Json& slot() {
    if (open_.empty()) return root;
    if (auto* fields = std::get_if<Json::Fields>(&open_.back()->value)) {
      return fields->back().item;
    }
    return std::get<Json::List>(open_.back()->value).emplace_back();
  }
  template <class Value>
  bool put(Value&& value) {
    slot().value = std::forward<Value>(value);
    return true;
  }
  template <class Container>
  bool open(Container&& empty) {
    if (open_.size() == kDepthMax) return complain(cat("more than ", kDepthMax, " levels"));
    Json& opened = slot();
    opened.value = std::forward<Container>(empty);
    open_.push_back(&opened);
    names_.emplace_back();
    return true;
  }

  std::vector<Json*> open_;  // from the root to the innermost; they do not move meanwhile
  std::vector<std::unordered_set<std::string>> names_;  // of each that is open
};

}  // namespace

Result<Json> Json::parse(std::string_view text, const std::string& place) {
  const auto bad = [&](const std::string& what) {
    return fail(ErrorCode::bad_model_file, cat(place, " holds ", what, "; expected JSON"), place);
  };
  if (text.size() > kBytesMax) return bad(cat(text.size(), " bytes, more than ", kBytesMax));
  TreeBuilder builder;
  if (!nlohmann::json::sax_parse(text, &builder)) return bad(builder.complaint);
  return std::move(builder.root);
}

const Json* Json::find(std::string_view name) const {
  if (fields() == nullptr) return nullptr;
  for (const auto& [key, item] : *fields()) {
    if (key != name) continue;
    return std::holds_alternative<std::monostate>(item.value) ? nullptr : &item;
  }
  return nullptr;
}

std::string_view Json::text_of(std::string_view name, std::string_view otherwise) const {
  const Json* found = find(name);
  return found != nullptr && found->text() != nullptr ? std::string_view(*found->text())
                                                      : otherwise;
}

bool Json::flag_of(std::string_view name, bool otherwise) const {
  const Json* found = find(name);
  return found != nullptr && found->flag() != nullptr ? *found->flag() : otherwise;
}

}  // namespace polykv
