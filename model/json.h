// JSON of a model's files as a tree. Nothing in it is trusted: depth and size are limited, names
// that come twice are refused.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "ipc/result.h"

namespace polykv {

class Json {
 public:
  using List = std::vector<Json>;
  struct Field;
  using Fields = std::vector<Field>;  // in the file's order

  // bad_model_file: `place` ("model file x/config.json") and the byte where it goes wrong.
  static Result<Json> parse(std::string_view text, const std::string& place);

  // nullptr: there is none, or it is null, or of another kind.
  const Json* find(std::string_view name) const;
  const std::string* text() const { return std::get_if<std::string>(&value); }
  const double* number() const { return std::get_if<double>(&value); }
  const bool* flag() const { return std::get_if<bool>(&value); }
  const List* list() const { return std::get_if<List>(&value); }
  const Fields* fields() const { return std::get_if<Fields>(&value); }

  // Shortcuts: of the field `name`.
  std::string_view text_of(std::string_view name, std::string_view otherwise = "") const;
  bool flag_of(std::string_view name, bool otherwise) const;

  std::variant<std::monostate, bool, double, std::string, List, Fields> value;
};

struct Json::Field {
  std::string name;
  Json item;
};

}  // namespace polykv
