// Error names and the check for broken promises.
#include "ipc/result.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace polykv {
namespace {

struct Name {
  ErrorCode code;
  const char* text;
};

constexpr std::array kNames{
    Name{ErrorCode::usage, "usage"},
    Name{ErrorCode::bad_model_file, "bad_model_file"},
    Name{ErrorCode::unsupported_model, "unsupported_model"},
    Name{ErrorCode::bad_text, "bad_text"},
    Name{ErrorCode::context_too_long, "context_too_long"},
    Name{ErrorCode::unknown_codec, "unknown_codec"},
    Name{ErrorCode::bad_agent_count, "bad_agent_count"},
    Name{ErrorCode::runtime_busy, "runtime_busy"},
    Name{ErrorCode::path_too_long, "path_too_long"},
    Name{ErrorCode::memory_limit, "memory_limit"},
    Name{ErrorCode::fingerprint_mismatch, "fingerprint_mismatch"},
    Name{ErrorCode::bad_segment, "bad_segment"},
    Name{ErrorCode::bad_message, "bad_message"},
    Name{ErrorCode::agent_lost, "agent_lost"},
    Name{ErrorCode::writer_lost, "writer_lost"},
    Name{ErrorCode::not_running, "not_running"},
    Name{ErrorCode::io, "io"},
    Name{ErrorCode::timed_out, "timed_out"},
    Name{ErrorCode::version_gone, "version_gone"},
    Name{ErrorCode::cancelled, "cancelled"},
    Name{ErrorCode::conflict, "conflict"},
    Name{ErrorCode::protocol_version, "protocol_version"},
    Name{ErrorCode::forbidden, "forbidden"},
    Name{ErrorCode::internal, "internal"},
};

}  // namespace

const char* error_name(ErrorCode code) {
  for (const Name& name : kNames) {
    if (name.code == code) return name.text;
  }
  return "internal";
}

ErrorCode error_from_name(std::string_view text) {
  for (const Name& name : kNames) {
    if (text == name.text) return name.code;
  }
  return ErrorCode::internal;
}

void check(bool ok, const char* sentence, std::source_location place) {
  if (ok) return;
  std::fprintf(stderr, "polykv: broken promise: %s (%s:%u, %s)\n", sentence, place.file_name(),
               static_cast<unsigned>(place.line()), place.function_name());
  std::abort();
}

}  // namespace polykv
