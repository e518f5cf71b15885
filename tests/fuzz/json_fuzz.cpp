// JSON of model files: held against the library's own reader; what is written back reads the same.
#include <nlohmann/json.hpp>

#include "model/json.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/model_checks.h"

using namespace polykv;
using Other = nlohmann::ordered_json;

namespace {

constexpr int kDepthMax = 32;

Other written(const Json& json, int depth) {
  check(depth <= kDepthMax, "the depth is limited");
  if (const bool* flag = json.flag()) return *flag;
  if (const double* number = json.number()) return *number;
  if (const std::string* text = json.text()) return *text;
  Other out;
  if (json.list() != nullptr) {
    out = Other::array();
    for (const Json& item : *json.list()) out.push_back(written(item, depth + 1));
  }
  if (json.fields() != nullptr) {
    out = Other::object();
    for (const auto& [name, item] : *json.fields()) {
      check(!out.contains(name), "no name comes twice");
      out[name] = written(item, depth + 1);
      const Json* found = json.find(name);
      const bool null = std::holds_alternative<std::monostate>(item.value);
      check(null ? found == nullptr : found == &item, "a field is found by its name");
    }
  }
  return out;
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  const auto json = Json::parse(text, "fuzz.json");
  if (!json) {
    fuzz::check_model_refusal(json.error());
    return 0;
  }
  check(Other::accept(text), "what is taken is JSON");
  const std::string first = written(*json, 0).dump();
  const auto again = Json::parse(first, "fuzz.json");
  check(again.has_value(), "what is written reads");
  check(written(*again, 0).dump() == first, "and reads the same");
  return 0;
}
