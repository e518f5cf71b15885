// Tokens to streamed text: whole UTF-8 characters only, cut at stop strings.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace polykv {

class TextStream {
 public:
  explicit TextStream(std::vector<std::string> stop_strings) : stops_(std::move(stop_strings)) {}

  // Takes a token's bytes; returns the text that is now certain: whole characters, and nothing that
  // may yet become part of a stop string. Bytes that can never become UTF-8 come out as U+FFFD.
  std::string push(std::string_view bytes);
  // What was held back, at the end of the answer.
  std::string finish();
  bool stopped() const { return stopped_; }  // a stop string was met; it is not part of the text

 private:
  std::string release(size_t keep_bytes);
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace polykv
