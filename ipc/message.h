// Control messages: closed UTF-8 JSON objects, each of a known type with known fields.
// The schemas are a table (ipc/message_schema.cpp; docs/protocol.md is written from it): a field
// that is missing, mistyped, out of range or unknown is a bad_message with the field's name.
// Parsing is bounded: kMessageBytesMax, kMessageDepthMax, no duplicate keys.
#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ipc/result.h"

namespace polykv {

inline constexpr size_t kMessageBytesMax = 1 << 20;
inline constexpr int kMessageDepthMax = 16;
inline constexpr int kProtocolVersion = 1;

// One message; a value. Getters REQUIRE a field of that type (the schema has been checked).
class Message {
 public:
  explicit Message(std::string_view type);  // sets "v" and "type"

  // Parses and validates against the schema of its "type".
  static Result<Message> parse(std::string_view text);
  // REQUIRES: the message satisfies its schema. Invalid UTF-8 in strings becomes U+FFFD.
  std::string dump() const;

  std::string type() const;
  // Under another type, with those fields that it has, too.
  Message renamed(std::string_view type) const;
  bool has(std::string_view name) const;

  Message& set(std::string_view name, std::string_view value);
  Message& set(std::string_view name, const char* value) {
    return set(name, std::string_view(value));
  }
  Message& set(std::string_view name, int64_t value);
  Message& set(std::string_view name, double value);
  Message& set(std::string_view name, bool value);
  Message& set(std::string_view name, const std::vector<std::string>& values);
  Message& set(std::string_view name, const std::vector<int64_t>& values);
  Message& set(std::string_view name, const std::vector<Message>& values);  // nested objects
  Message& set(std::string_view name, const Message& value);                // a nested object
  template <std::integral T>
  Message& set(std::string_view name, T value) {
    return set(name, static_cast<int64_t>(value));
  }
  // 64-bit ids travel as decimal strings.
  Message& set_id(std::string_view field, uint64_t id) { return set(field, cat(id)); }

  std::string text(std::string_view name, std::string_view otherwise = "") const;
  int64_t integer(std::string_view name, int64_t otherwise = 0) const;
  double number(std::string_view name, double otherwise = 0) const;
  bool flag(std::string_view name, bool otherwise = false) const;
  uint64_t id(std::string_view field) const;
  std::vector<std::string> texts(std::string_view name) const;
  std::vector<int64_t> integers(std::string_view name) const;
  std::vector<Message> objects(std::string_view field) const;

  Message(const Message&);
  Message(Message&&) noexcept;
  Message& operator=(Message) noexcept;
  ~Message();

 private:
  struct Body;
  explicit Message(std::unique_ptr<Body> body);
  template <class T>
  Message& put(std::string_view name, T&& value);
  template <class T>
  T get(std::string_view name, T otherwise) const;
  std::unique_ptr<Body> body_;
};

// The "id" of a text that parse() refused, as far as it has a valid one: so that a refusal finds
// its request.
std::string id_of_refused(std::string_view text);

// {"type":"error", "code", "message", "value", "limit"} and back.
Message error_message(const Error& error);
Error error_of(const Message& message);

}  // namespace polykv
