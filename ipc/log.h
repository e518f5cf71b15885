// One-line logs on standard error, for people or, one JSON object a line, for machines. Nothing per
// token at the default level.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ipc/result.h"

namespace polykv {

enum class LogLevel { debug, info, warning, error };
enum class LogFormat { text, json };

// What a line is about, e.g. {"agent", "a03"}, {"request", "r7"}: name=value in a text line, a
// member in JSON. An empty value is left out.
struct LogField {
  std::string_view name;
  std::string value;
};
using LogFields = std::vector<LogField>;

// `who` leads every line, e.g. "polykv" or "agent a03". Call once at a program's start.
void start_log(const std::string& who, LogLevel threshold, LogFormat format = LogFormat::text);
void log_line(LogLevel level, const std::string& sentence, const LogFields& fields = {});

// How the programs' options name them; usage error with the choices.
Result<LogLevel> parse_log_level(std::string_view name);
Result<LogFormat> parse_log_format(std::string_view name);

// What stands after time and level; always one line. JSON: the members after those, and the brace.
std::string log_text(const std::string& sentence, const LogFields& fields);
std::string log_json(const std::string& who, const std::string& sentence, const LogFields& fields);

}  // namespace polykv
