// docs/protocol.md and the table of messages say the same, row by row.
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "ipc/message_schema.h"
#include "ipc/result.h"

namespace polykv {
namespace {

constexpr int64_t kCountMax = int64_t{1} << 53;

std::string words_of(std::string_view words) {
  std::string text(words);
  for (size_t at; (at = text.find('|')) != text.npos;) text.replace(at, 1, "`, `");
  return cat("one of `", text, "`");
}

std::string kind_of(const Field& field) {
  const std::string range = cat(field.low, "..", field.high);
  const std::string list = cat("list of at most ", field.count, " × ");
  switch (field.kind) {
    case FieldKind::text:
      return "text " + range;
    case FieldKind::choice:
      return words_of(field.words);
    case FieldKind::path:
      return "path";
    case FieldKind::integer:
      if (field.high == kCountMax) return "count";
      return field.high == INT32_MAX ? "pid" : "integer " + range;
    case FieldKind::number:
      if (field.high != kCountMax) return "number " + range;
      return field.low == 0 ? "number" : "signed number";
    case FieldKind::flag:
      return "flag";
    case FieldKind::id:
      return "id";
    case FieldKind::texts:
      return list + "text " + range;
    case FieldKind::integers:
      return list + "integer " + range;
    case FieldKind::object:
      return cat("`", field.words, "`");
    case FieldKind::objects:
      return cat(list, "`", field.words, "`");
  }
  return "";
}

std::string name_of(const Field& field) {
  return cat("`", field.name, "`", field.required ? "" : "?");
}

std::string row_of(const MessageSchema& schema) {
  std::string fields;
  for (const Field& field : schema.fields) {
    fields += cat(fields.empty() ? "" : "; ", name_of(field), " ", kind_of(field));
  }
  for (const Choice& choice : schema.choices) {
    fields += choice.one ? "; exactly one of " : "; at most one of ";
    for (const std::string_view field : choice.fields) {
      fields += cat(field == choice.fields.front() ? "`" : ", `", field, "`");
    }
  }
  return cat("| `", schema.name, "` | ", schema.way, " | ", fields.empty() ? "none" : fields, " |");
}

std::set<std::string> documented_rows() {
  std::set<std::string> rows;
  std::ifstream file(POLYKV_SOURCE_DIR "/docs/protocol.md");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("| `")) rows.insert(line);
  }
  return rows;
}

TEST(ProtocolDocument, has_a_row_for_every_message_and_common_field) {
  const auto rows = documented_rows();
  for (const MessageSchema& schema : message_schemas()) {
    EXPECT_TRUE(rows.contains(row_of(schema))) << "docs/protocol.md lacks:\n" << row_of(schema);
  }
  for (const Field& field : common_fields()) {
    const std::string row = cat("| ", name_of(field), " | ", kind_of(field), " |");
    EXPECT_TRUE(rows.contains(row)) << "docs/protocol.md lacks:\n" << row;
  }
}

TEST(ProtocolDocument, has_no_row_that_the_table_lacks) {
  std::set<std::string> known{"ctl", "bus", "fd"};  // the table of sockets
  for (const MessageSchema& schema : message_schemas()) known.emplace(schema.name);
  for (const Field& field : common_fields()) known.emplace(field.name);
  size_t messages = 0;
  for (const std::string& row : documented_rows()) {
    const std::string name = row.substr(3, row.find('`', 3) - 3);
    EXPECT_TRUE(known.contains(name)) << "the table lacks: " << row;
    ++messages;
  }
  EXPECT_EQ(messages, known.size());
}

TEST(MessageTable, names_are_unique_and_nested_schemas_exist) {
  std::set<std::string_view> seen;
  for (const MessageSchema& schema : message_schemas()) {
    EXPECT_TRUE(seen.insert(schema.name).second) << schema.name;
    std::set<std::string_view> fields;
    for (const Field& field : schema.fields) {
      EXPECT_TRUE(fields.insert(field.name).second) << schema.name << "." << field.name;
      EXPECT_LE(field.low, field.high) << schema.name << "." << field.name;
      if (field.kind != FieldKind::objects && field.kind != FieldKind::object) continue;
      const MessageSchema* nested = find_schema(field.words);
      ASSERT_NE(nested, nullptr) << field.words;
      EXPECT_TRUE(nested->way.empty()) << field.words;
    }
  }
}

}  // namespace
}  // namespace polykv
