// One-line logs on standard error. Nothing per token at the default level.
#pragma once

#include <string>

namespace polykv {

enum class LogLevel { debug, info, warning, error };

// `who` leads every line, e.g. "supervisor" or "agent a3". Call once at a program's start.
void start_log(const std::string& who, LogLevel threshold);
void log_line(LogLevel level, const std::string& sentence);

}  // namespace polykv
