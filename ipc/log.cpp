// The only user of spdlog.
#include "ipc/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

#include "ipc/utf8.h"

namespace polykv {
namespace {

spdlog::level::level_enum level_of(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::error:
      break;
  }
  return spdlog::level::err;
}

// How a byte of ASCII is written inside quotes; "" = as it is.
std::string escape_of(char byte) {
  switch (byte) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    default:
      break;
  }
  const auto code = static_cast<unsigned char>(byte);
  return code < 0x20 || code == 0x7f ? fmt::format("\\u{:04x}", code) : "";
}

// Without line ends, control characters and invalid UTF-8; `quotes`: for inside quotes.
std::string escaped(std::string_view text, bool quotes) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const Utf8Step step = utf8_step(text, i);
    const bool kept = !quotes && (text[i] == '"' || text[i] == '\\');
    const std::string escape = kept ? "" : escape_of(text[i]);
    if (step.state != Utf8State::complete) {
      out += "\ufffd";
    } else if (escape.empty()) {
      out += text.substr(i, step.bytes);
    } else {
      out += escape;
    }
    i += step.bytes;
  }
  return out;
}

std::string in_quotes(std::string_view text) { return cat('"', escaped(text, true), '"'); }

bool needs_quotes(std::string_view value) {
  return value.find_first_of(" \"=\\") != value.npos || escaped(value, true) != value;
}

// Of the logger that start_log() made: spdlog keeps it, under its name, for the whole program.
bool writes_json() { return spdlog::default_logger_raw()->name().starts_with("json "); }

}  // namespace

Result<LogLevel> parse_log_level(std::string_view name) {
  if (name == "debug") return LogLevel::debug;
  if (name == "info") return LogLevel::info;
  if (name == "warning") return LogLevel::warning;
  if (name == "error") return LogLevel::error;
  return fail(ErrorCode::usage,
              cat("there is no log level '", name, "': debug, info, warning or error"),
              std::string(name), "debug, info, warning, error");
}

Result<LogFormat> parse_log_format(std::string_view name) {
  if (name == "text") return LogFormat::text;
  if (name == "json") return LogFormat::json;
  return fail(ErrorCode::usage, cat("there is no log format '", name, "': text or json"),
              std::string(name), "text, json");
}

std::string log_text(const std::string& sentence, const LogFields& fields) {
  std::string line = escaped(sentence, false);
  for (const LogField& field : fields) {
    if (field.value.empty()) continue;
    line +=
        cat(' ', field.name, '=', needs_quotes(field.value) ? in_quotes(field.value) : field.value);
  }
  return line;
}

std::string log_json(const std::string& who, const std::string& sentence, const LogFields& fields) {
  std::string line = cat(R"("who":)", in_quotes(who), R"(,"message":)", in_quotes(sentence));
  for (const LogField& field : fields) {
    if (!field.value.empty()) line += cat(',', in_quotes(field.name), ':', in_quotes(field.value));
  }
  return line + '}';
}

void start_log(const std::string& who, LogLevel threshold, LogFormat format) {
  const bool json = format == LogFormat::json;
  auto logger = std::make_shared<spdlog::logger>(json ? "json " + who : escaped(who, false),
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
  if (json) {
    logger->set_pattern(R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v)",
                        spdlog::pattern_time_type::utc);
  } else {
    logger->set_pattern("%H:%M:%S.%e %L [%n] %v");
  }
  logger->set_level(level_of(threshold));
  logger->flush_on(spdlog::level::trace);
  spdlog::set_default_logger(std::move(logger));
}

void log_line(LogLevel level, const std::string& sentence, const LogFields& fields) {
  spdlog::logger* logger = spdlog::default_logger_raw();
  if (!logger->should_log(level_of(level))) return;
  const std::string line = writes_json() ? log_json(logger->name().substr(5), sentence, fields)
                                         : log_text(sentence, fields);
  logger->log(level_of(level), spdlog::string_view_t(line));
}

}  // namespace polykv
