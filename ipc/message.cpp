// Messages and their bounded parser: the only file that sees nlohmann-json.
#include "ipc/message.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "ipc/message_schema.h"

namespace polykv {
namespace {

using nlohmann::json;
constexpr size_t kQuoteMax = 64;  // bytes of a stranger's text that a sentence repeats

std::string clip(std::string_view text, size_t bytes = kQuoteMax) {
  if (text.size() <= bytes) return std::string(text);
  return cat(text.substr(0, bytes), "…");
}

std::string print(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string quote(const json& value) {
  return value.is_structured() ? std::string(value.type_name()) : clip(print(value));
}

template <class... Values>
std::unexpected<Error> bad(const std::string& sentence, const Values&... value_and_limit) {
  return fail(ErrorCode::bad_message, sentence, value_and_limit...);
}

std::unexpected<Error> wrong(const std::string& where, const json& value,
                             const std::string& wanted) {
  return bad(cat("field '", where, "' is ", quote(value), ", wanted ", wanted), quote(value),
             wanted);
}

Status expect(bool good, const std::string& where, const json& value, const std::string& wanted) {
  return good ? Status() : wrong(where, value, wanted);
}

// Builds the tree, and stops at the first excess: nlohmann's own parser has no limits.
class TreeBuilder final : public nlohmann::json_sax<json> {
 public:
  json root;
  std::string complaint, value, limit;

  bool null() override { return put(nullptr); }
  bool boolean(bool v) override { return put(v); }
  bool number_integer(number_integer_t v) override { return put(v); }
  bool number_unsigned(number_unsigned_t v) override { return put(v); }
  bool number_float(number_float_t v, const string_t&) override { return put(v); }
  bool string(string_t& v) override { return put(std::move(v)); }
  bool binary(binary_t&) override { return complain("binary data", "", ""); }
  bool start_object(std::size_t) override { return open(json::object()); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_object() override { return end_array(); }
  bool end_array() override {
    open_.pop_back();
    return true;
  }

  bool key(string_t& name) override {
    const auto [place, fresh] = open_.back()->get_ref<json::object_t&>().try_emplace(name);
    if (!fresh) return complain(cat("the field '", clip(name), "' comes twice"), clip(name), "1");
    slot_ = &place->second;
    return true;
  }

  bool parse_error(std::size_t position, const std::string& token,
                   const json::exception&) override {
    return complain(cat("malformed JSON at byte ", position, ", near '", clip(token), "'"),
                    clip(token), "a JSON object in UTF-8");
  }

 private:
  bool complain(std::string sentence, std::string offending, std::string bound) {
    complaint = std::move(sentence), value = std::move(offending), limit = std::move(bound);
    return false;
  }

  json* place(json&& item) {
    if (open_.empty()) return &(root = std::move(item));
    if (open_.back()->is_object()) return &(*slot_ = std::move(item));
    return &open_.back()->get_ref<json::array_t&>().emplace_back(std::move(item));
  }

  bool put(json&& item) { return place(std::move(item)) != nullptr; }

  bool open(json&& item) {
    if (open_.size() == kMessageDepthMax) {
      return complain(cat("nested deeper than ", kMessageDepthMax, " levels"),
                      cat(kMessageDepthMax + 1), cat(kMessageDepthMax));
    }
    open_.push_back(place(std::move(item)));
    return true;
  }

  // From the root to the innermost container; nodes do not move meanwhile.
  std::vector<json*> open_;
  json* slot_ = nullptr;  // where the value of the last key goes
};

Result<json> parse_tree(std::string_view text) {
  if (text.size() > kMessageBytesMax) {
    return bad(cat("a message of ", text.size(), " bytes; at most ", kMessageBytesMax,
                   " are taken. Hand long texts over by path"),
               cat(text.size()), cat(kMessageBytesMax));
  }
  TreeBuilder builder;
  if (!json::sax_parse(text, &builder)) return bad(builder.complaint, builder.value, builder.limit);
  if (builder.root.is_object()) return std::move(builder.root);
  return bad(cat("a message is a JSON object, not ", builder.root.type_name()),
             builder.root.type_name(), "object");
}

bool integer_in(const json& value, int64_t low, int64_t high) {
  if (value.is_number_unsigned()) {
    return high >= 0 && value.get<uint64_t>() <= static_cast<uint64_t>(high) &&
           (low <= 0 || value.get<uint64_t>() >= static_cast<uint64_t>(low));
  }
  return value.is_number_integer() && value.get<int64_t>() >= low && value.get<int64_t>() <= high;
}

bool number_in(const json& value, int64_t low, int64_t high) {
  return value.is_number() && value.get<double>() >= static_cast<double>(low) &&
         value.get<double>() <= static_cast<double>(high);
}

bool text_in(const json& value, int64_t low, int64_t high) {
  if (!value.is_string()) return false;
  const size_t size = value.get_ref<const std::string&>().size();
  return size >= static_cast<size_t>(low) && size <= static_cast<size_t>(high);
}

Status check_text(const json& value, const Field& field, const std::string& where) {
  if (field.kind == FieldKind::choice) {
    const bool good = value.is_string() && in_words(value.get<std::string>(), field.words);
    return expect(good, where, value, cat("one of ", field.words));
  }
  if (field.kind == FieldKind::id) {
    uint64_t number = 0;
    const bool good = value.is_string() && parse_id(value.get<std::string>(), number);
    return expect(good, where, value, "a 64-bit number as a decimal string");
  }
  if (!text_in(value, field.low, field.high)) {
    return wrong(where, value, cat("a string of ", field.low, "..", field.high, " bytes"));
  }
  if (field.kind != FieldKind::path) return {};
  const std::string& text = value.get_ref<const std::string&>();
  const bool good = text.front() == '/' && text.find('\0') == std::string::npos;
  return expect(good, where, value, "an absolute path");
}

Status check_object(const json& object, const MessageSchema& schema, const std::string& where,
                    bool top);

Status check_nested(const json& item, const Field& field, const std::string& where) {
  const MessageSchema* nested = find_schema(field.words);
  check(nested != nullptr, "a field names a schema that the table has");
  if (!item.is_object()) return wrong(where, item, cat("an object ", field.words));
  return check_object(item, *nested, where + ".", false);
}

Status check_item(const json& item, const Field& field, const std::string& where) {
  const std::string range = cat(field.low, "..", field.high);
  if (field.kind == FieldKind::objects) return check_nested(item, field, where);
  if (field.kind == FieldKind::integers) {
    return expect(integer_in(item, field.low, field.high), where, item, "an integer in " + range);
  }
  return expect(text_in(item, field.low, field.high), where, item,
                cat("a string of ", range, " bytes"));
}

Status check_list(const json& value, const Field& field, const std::string& where) {
  const std::string wanted = cat("a list of at most ", field.count, " items");
  if (!value.is_array()) return wrong(where, value, wanted);
  if (value.size() > field.count) {
    return bad(cat("field '", where, "' has ", value.size(), " items, wanted ", wanted),
               cat(value.size()), cat(field.count));
  }
  for (size_t i = 0; i < value.size(); ++i) {
    if (const Status ok = check_item(value[i], field, cat(where, "[", i, "]")); !ok) return ok;
  }
  return {};
}

Status check_value(const json& value, const Field& field, const std::string& where) {
  const std::string range = cat(field.low, "..", field.high);
  switch (field.kind) {
    case FieldKind::integer:
      return expect(integer_in(value, field.low, field.high), where, value,
                    "an integer in " + range);
    case FieldKind::number:
      return expect(number_in(value, field.low, field.high), where, value, "a number in " + range);
    case FieldKind::flag:
      return expect(value.is_boolean(), where, value, "true or false");
    case FieldKind::object:
      return check_nested(value, field, where);
    case FieldKind::texts:
    case FieldKind::integers:
    case FieldKind::objects:
      return check_list(value, field, where);
    default:
      return check_text(value, field, where);
  }
}

Status check_choice(const json& object, const Choice& choice, const MessageSchema& schema,
                    const std::string& where) {
  std::string there, all;
  size_t count = 0;
  for (const std::string_view field : choice.fields) {
    all += cat(all.empty() ? "" : ", ", where, field);
    if (!object.contains(field)) continue;
    there += cat(there.empty() ? "" : ", ", where, field);
    ++count;
  }
  if (count == 1 || (count == 0 && !choice.one)) return {};
  return bad(cat("message '", schema.name, "' takes ", choice.one ? "exactly" : "at most",
                 " one of the fields ", all, "; it has ", count == 0 ? "none" : there),
             there, all);
}

// Every member is a known field of the right kind, every required field is there, and of fields
// that exclude each other only one.
Status check_object(const json& object, const MessageSchema& schema, const std::string& where,
                    bool top) {
  for (const auto& [name, value] : object.items()) {
    const Field* field = schema.find(name);
    if (field == nullptr && top) field = find_common_field(name);
    if (field == nullptr) {
      return bad(cat("message '", schema.name, "' has no field '", where, clip(name), "'"),
                 where + clip(name), "the fields in docs/protocol.md");
    }
    if (const Status ok = check_value(value, *field, where + name); !ok) return ok;
  }
  for (const Field& field : schema.fields) {
    if (!field.required || object.contains(field.name)) continue;
    return bad(cat("message '", schema.name, "' lacks the field '", where, field.name, "'"), "",
               cat(field.name));
  }
  for (const Choice& choice : schema.choices) {
    if (const Status ok = check_choice(object, choice, schema, where); !ok) return ok;
  }
  return {};
}

Status check_version(const json& object) {
  const auto v = object.find("v");
  if (v == object.end())
    return bad("the message lacks the field 'v', the protocol's version", "", "v");
  if (integer_in(*v, kProtocolVersion, kProtocolVersion)) return {};
  return fail(ErrorCode::protocol_version,
              cat("the message speaks protocol version ", quote(*v), ", this side speaks version ",
                  kProtocolVersion, ": use a client of that version"),
              quote(*v), cat(kProtocolVersion));
}

Result<const MessageSchema*> schema_of(const json& object) {
  const auto type = object.find("type");
  if (type == object.end()) return bad("the message lacks the field 'type'", "", "type");
  if (!type->is_string()) return wrong("type", *type, "a string");
  const MessageSchema* schema = find_schema(type->get_ref<const std::string&>());
  if (schema != nullptr && !schema->way.empty()) return schema;
  return bad(cat("there is no message type ", quote(*type), "; docs/protocol.md lists them"),
             quote(*type), "the types in docs/protocol.md");
}

// JSON has no infinity: a rate over no time is sent as the largest number a field takes, NaN as 0.
double finite(double value) {
  constexpr double kMost = 9007199254740992.0;
  if (std::isnan(value)) return 0;
  return std::isinf(value) ? std::copysign(kMost, value) : value;
}

}  // namespace

struct Message::Body {
  std::string type;
  json fields = json::object();  // without "v" and "type"
};

template <class T>
Message& Message::put(std::string_view name, T&& value) {
  body_->fields[std::string(name)] = std::forward<T>(value);
  return *this;
}

template <class T>
T Message::get(std::string_view name, T otherwise) const {
  const auto found = body_->fields.find(name);
  if (found == body_->fields.end()) return otherwise;
  try {
    return found->get<T>();
  } catch (const json::exception&) {
    check(false, "a getter is asked of a field of its own type");
  }
  return otherwise;
}

Message::Message(std::string_view type) : body_(std::make_unique<Body>()) { body_->type = type; }
Message::Message(std::unique_ptr<Body> body) : body_(std::move(body)) {}
Message::Message(const Message& other) : body_(std::make_unique<Body>(*other.body_)) {}
Message::Message(Message&&) noexcept = default;
Message& Message::operator=(Message other) noexcept {
  body_.swap(other.body_);
  return *this;
}
Message::~Message() = default;

Result<Message> Message::parse(std::string_view text) {
  auto tree = parse_tree(text);
  if (!tree) return pass(tree);
  if (const Status ok = check_version(*tree); !ok) return pass(ok);
  const auto schema = schema_of(*tree);
  if (!schema) return pass(schema);
  if (const Status ok = check_object(*tree, **schema, "", true); !ok) return pass(ok);
  tree->erase("v");
  tree->erase("type");
  return Message(std::make_unique<Body>(Body{std::string((*schema)->name), std::move(*tree)}));
}

std::string Message::dump() const {
  json whole = body_->fields;
  whole["v"] = kProtocolVersion;
  whole["type"] = body_->type;
  return print(whole);
}

std::string Message::type() const { return body_->type; }
Message Message::renamed(std::string_view type) const {
  const MessageSchema* schema = find_schema(type);
  check(schema != nullptr, "a message is renamed to a type that the table has");
  json kept = json::object();
  for (const auto& [name, value] : body_->fields.items()) {
    if (schema->find(name) != nullptr || find_common_field(name) != nullptr) kept[name] = value;
  }
  return Message(std::make_unique<Body>(Body{std::string(type), std::move(kept)}));
}
bool Message::has(std::string_view name) const { return body_->fields.contains(name); }

Message& Message::set(std::string_view name, std::string_view value) { return put(name, value); }
Message& Message::set(std::string_view name, int64_t value) { return put(name, value); }
Message& Message::set(std::string_view name, double value) { return put(name, finite(value)); }
Message& Message::set(std::string_view name, bool value) { return put(name, value); }
Message& Message::set(std::string_view name, const std::vector<std::string>& values) {
  return put(name, values);
}
Message& Message::set(std::string_view name, const std::vector<int64_t>& values) {
  return put(name, values);
}
Message& Message::set(std::string_view name, const std::vector<Message>& values) {
  json list = json::array();
  for (const Message& value : values) list.push_back(value.body_->fields);
  return put(name, std::move(list));
}
Message& Message::set(std::string_view name, const Message& value) {
  return put(name, value.body_->fields);
}

std::string Message::text(std::string_view name, std::string_view otherwise) const {
  return get(name, std::string(otherwise));
}
int64_t Message::integer(std::string_view name, int64_t otherwise) const {
  return get(name, otherwise);
}
double Message::number(std::string_view name, double otherwise) const {
  return get(name, otherwise);
}
bool Message::flag(std::string_view name, bool otherwise) const { return get(name, otherwise); }
std::vector<std::string> Message::texts(std::string_view name) const {
  return get<std::vector<std::string>>(name, {});
}
std::vector<int64_t> Message::integers(std::string_view name) const {
  return get<std::vector<int64_t>>(name, {});
}

std::vector<Message> Message::objects(std::string_view field) const {
  std::vector<Message> result;
  const MessageSchema* schema = find_schema(body_->type);
  const Field* nested = schema ? schema->find(field) : nullptr;
  if (!has(field) || nested == nullptr) return result;
  for (const json& item : *body_->fields.find(field)) {
    result.push_back(Message(std::make_unique<Body>(Body{std::string(nested->words), item})));
  }
  return result;
}

std::string id_of_refused(std::string_view text) {
  const auto tree = parse_tree(text);
  if (!tree || !tree->contains("id")) return {};
  const json& id = tree->at("id");
  const Field* field = find_common_field("id");
  return check_value(id, *field, "id") ? id.get<std::string>() : std::string();
}

}  // namespace polykv
