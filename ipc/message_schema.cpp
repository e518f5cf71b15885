// Looking messages up in their table (message_table_client.cpp, message_table_inner.cpp).
#include "ipc/message_schema.h"

#include <charconv>

#include "ipc/message.h"
#include "ipc/message_fields.h"
#include "ipc/result.h"

namespace polykv {
namespace {

std::vector<MessageSchema> make_table() {
  std::vector<MessageSchema> table;
  table::add_client_messages(table);
  table::add_runtime_messages(table);
  table::add_agent_messages(table);
  table::add_writer_messages(table);
  table::add_client_objects(table);
  table::add_reports(table);
  return table;
}

}  // namespace

const Field* MessageSchema::find(std::string_view field) const {
  for (const Field& one : fields) {
    if (one.name == field) return &one;
  }
  return nullptr;
}

const std::vector<Field>& common_fields() {
  static const table::Fields fields{table::integer("v", kProtocolVersion, kProtocolVersion),
                                    table::word("type"), table::optional(table::word("id")),
                                    table::optional(table::id("seq"))};
  return fields;
}

const std::vector<MessageSchema>& message_schemas() {
  static const std::vector<MessageSchema> table = make_table();
  return table;
}

const MessageSchema* find_schema(std::string_view name) {
  for (const MessageSchema& schema : message_schemas()) {
    if (schema.name == name) return &schema;
  }
  return nullptr;
}

const Field* find_common_field(std::string_view name) {
  for (const Field& field : common_fields()) {
    if (field.name == name) return &field;
  }
  return nullptr;
}

bool in_words(std::string_view word, std::string_view words) {
  return word.find('|') == word.npos && !word.empty() &&
         cat("|", words, "|").find(cat("|", word, "|")) != std::string::npos;
}

bool parse_id(std::string_view text, uint64_t& id) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  return error == std::errc{} && end == text.data() + text.size() &&
         (text.size() == 1 || text.front() != '0');
}

}  // namespace polykv
