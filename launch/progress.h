// One line on the terminal that tells how far long work is; silent when standard error is no
// terminal.
#pragma once

#include <chrono>
#include <string>

#include "ipc/message.h"

namespace polykv {

class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void show(const std::string& text);
  // "prefill: 12 of 30 layers, 401 tokens/s" or "packing the model: 64.0 MB of 98.2 MB", from a
  // "progress" message.
  void show(const Message& progress);
  void clear();

 private:
  bool terminal_;
  bool shown_ = false;
  std::chrono::steady_clock::time_point last_{};
};

}  // namespace polykv
