// Messages made from the table of messages, as JSON.
#pragma once

#include <string>

#include "ipc/message_schema.h"

namespace polykv::testing {

// A value that the field takes.
std::string field_value(const Field& field);
// All fields of the schema, of those that exclude each other the first.
std::string filled_message(const MessageSchema& schema);

}  // namespace polykv::testing
