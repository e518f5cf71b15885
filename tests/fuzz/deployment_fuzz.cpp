// A deployment's TOML file: what is read is printed and read again as the same.
#include "launch/config_file.h"
#include "tests/fuzz/fuzz.h"

using namespace polykv;

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const fuzz::MemoryFile file(fuzz::text_of(data, size));
  const auto deployment = read_config(file.path(), {});
  if (!deployment) {
    fuzz::check_code(deployment.error(), {ErrorCode::usage});
    return 0;
  }
  Deployment completed = *deployment;
  complete(completed);
  if (const auto checked = check_deployment(completed); !checked) {
    fuzz::check_code(checked.error(),
                     {ErrorCode::usage, ErrorCode::unknown_codec, ErrorCode::bad_agent_count,
                      ErrorCode::path_too_long, ErrorCode::unsupported_model});
  }
  check(supervisor_options(completed).agent_lanes == completed.lanes, "lanes are handed on");
  const fuzz::MemoryFile printed(print_config(*deployment));
  const auto again = read_config(printed.path(), {});
  check(again.has_value(), again ? "" : again.error().message.c_str());
  // Relative paths were resolved at the first reading.
  check(*again == *deployment, "what is printed reads as the same deployment");
  return 0;
}
