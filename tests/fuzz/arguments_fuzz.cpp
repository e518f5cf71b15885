// The command line of `polykv`, an argument a line; then its words as a size, a model and a codec.
#include <iostream>
#include <sstream>

#include "ipc/codec.h"
#include "launch/options.h"
#include "tests/fuzz/fuzz.h"

using namespace polykv;

namespace {

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at <= text.size() && lines.size() < 40;) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.emplace_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

// What is printed meanwhile goes nowhere.
class Silence {
 public:
  Silence() : out_(std::cout.rdbuf(sink_.rdbuf())), err_(std::cerr.rdbuf(sink_.rdbuf())) {}
  Silence(const Silence&) = delete;
  Silence& operator=(const Silence&) = delete;
  ~Silence() {
    std::cout.rdbuf(out_);
    std::cerr.rdbuf(err_);
  }

 private:
  std::ostringstream sink_;
  std::streambuf *out_, *err_;
};

void check_words(const std::string& word) {
  if (const auto size = parse_size(word); !size) {
    check(size.error().code == ErrorCode::usage, "a bad size is a usage error");
  }
  const ModelEntry model = parse_model(word);
  check(model.name.find('/') == std::string::npos, "a model's name has no slash");
  const auto codec = parse_codec(word);
  check(!codec || parse_codec(codec_name(*codec)) == *codec, "a codec's name names it");
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  std::vector<std::string> lines = lines_of(text.substr(0, text.find('\0')));
  // A file that is named would be read, and any path may be named.
  const auto names_a_file = [](const std::string& line) {
    return line.starts_with("--config") || line.starts_with("-c");
  };
  if (std::ranges::any_of(lines, names_a_file)) return 0;
  std::vector<const char*> arguments = {"polykv"};
  for (const std::string& line : lines) arguments.push_back(line.c_str());
  const Silence silence;
  const auto parsed = parse_arguments(static_cast<int>(arguments.size()), arguments.data());
  check(!parsed || !parsed->command.empty(), "what is accepted has a command");
  check(parsed || (parsed.error() >= 0 && parsed.error() < 71), "an exit code is a known one");
  for (const std::string& line : lines) check_words(line);
  return 0;
}
