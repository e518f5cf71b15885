// Errors that a caller can act on. Everything in polykv reports failure with these types.
//
// Three classes, three mechanisms: a normal outcome is a value (bool, optional); an operating error
// is a Result with a code, a sentence, the offending value and the limit; a programmer error is
// check().
#pragma once

#include <cerrno>
#include <cstring>
#include <expected>
#include <source_location>
#include <sstream>
#include <string>
#include <utility>

namespace polykv {

// The value is also the exit code of the programs (README, "Exit codes"): never renumber.
enum class ErrorCode : int {
  usage = 2,                  // bad command line, unknown option or value
  bad_model_file = 3,         // truncated, corrupted or absurd model file
  unsupported_model = 4,      // a well-formed file of a kind that this build cannot run
  bad_text = 5,               // context or question is empty, missing or not UTF-8
  context_too_long = 6,       // context + prompt + max tokens beyond the model's positions
  unknown_codec = 7,          // no such codec name
  bad_agent_count = 8,        // 0 agents, or more than the limit
  runtime_busy = 9,           // another supervisor owns the runtime directory
  path_too_long = 10,         // a socket path past the kernel's limit
  memory_limit = 11,          // budget, cgroup, RLIMIT_FSIZE or free memory would be exceeded
  fingerprint_mismatch = 12,  // pool and model do not belong together
  bad_segment = 13,           // a segment, manifest or image failed validation
  bad_message = 14,           // malformed, oversized, unknown or ill-typed message
  agent_lost = 15,            // an agent died before it finished
  writer_lost = 16,           // the writer died before it finished
  not_running = 17,           // no supervisor answers in the runtime directory
  io = 18,                    // a system call failed
  timed_out = 19,             // a deadline passed
  version_gone = 20,          // the named model, pool or version does not exist (any more)
  cancelled = 21,             // the request was cancelled
  conflict = 22,              // another request changed the same thing first
  protocol_version = 23,      // the other side speaks another version of the protocol
  forbidden = 24,             // the runtime belongs to another user
  internal = 70,              // a promise inside polykv was broken
};

// The code's stable name in messages and JSON, e.g. "memory_limit".
const char* error_name(ErrorCode code);
// The inverse; ErrorCode::internal for an unknown name.
ErrorCode error_from_name(std::string_view text);

struct Error {
  ErrorCode code = ErrorCode::internal;
  std::string message;  // what was wrong, where, what was expected, what to do next
  std::string value;    // the offending value, empty where there is none
  std::string limit;    // the limit it broke, empty where there is none
};

template <class T>
using Result = std::expected<T, Error>;
using Status = std::expected<void, Error>;

// Joins its arguments as operator<< prints them.
template <class... Parts>
std::string cat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

inline std::unexpected<Error> fail(ErrorCode code, std::string message, std::string value = {},
                                   std::string limit = {}) {
  return std::unexpected(Error{code, std::move(message), std::move(value), std::move(limit)});
}

// ErrorCode::io with the operation and errno's text.
inline std::unexpected<Error> fail_errno(const std::string& operation, int error = errno) {
  return fail(ErrorCode::io, cat(operation, ": ", std::strerror(error)));
}

// Hands an error on to the caller: `if (!r) return pass(r);`
template <class T>
std::unexpected<Error> pass(const Result<T>& result) {
  return std::unexpected(result.error());
}

// A broken promise inside polykv: prints the sentence and the place, then aborts.
void check(bool ok, const char* sentence,
           std::source_location place = std::source_location::current());

}  // namespace polykv
