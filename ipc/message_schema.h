// The table of control messages: adding a message, or a field, is one row of
// message_table_client.cpp (what clients see) or message_table_inner.cpp (agents, the writer,
// reports).
// docs/protocol.md shows the same table to people; a test holds the two together.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace polykv {

// What a field may hold. JSON has no 64-bit integers: numbers stay below 2^53, ids are strings.
enum class FieldKind {
  text,      // string of low..high bytes
  choice,    // one of the words of `words`, separated by '|'
  path,      // absolute path: string without zero bytes
  integer,   // low..high
  number,    // low..high
  flag,      // true or false
  id,        // 64-bit unsigned, as a decimal string
  texts,     // list of at most `count` strings of low..high bytes
  integers,  // list of at most `count` integers low..high
  object,    // an object of the schema `words`
  objects,   // list of at most `count` objects of the schema `words`
};

struct Field {
  std::string_view name;
  FieldKind kind = FieldKind::flag;
  int64_t low = 0;
  int64_t high = 0;
  std::string_view words = {};
  size_t count = 0;
  bool required = true;
};

// Optional fields that exclude each other; `one` of them has to be there.
struct Choice {
  std::vector<std::string_view> fields;
  bool one = false;
};

struct MessageSchema {
  std::string_view name;
  std::string_view way;  // who sends it to whom; empty for objects inside messages
  std::vector<Field> fields;
  std::vector<Choice> choices = {};

  const Field* find(std::string_view field) const;
};

// Fields that every message has or may have.
const std::vector<Field>& common_fields();
const Field* find_common_field(std::string_view name);
const std::vector<MessageSchema>& message_schemas();
const MessageSchema* find_schema(std::string_view name);  // nullptr: no such message

bool in_words(std::string_view word, std::string_view words);  // words: "one|two|three"
bool parse_id(std::string_view text, uint64_t& id);            // decimal digits, no leading zero

}  // namespace polykv
