// The progress line.
#include "launch/progress.h"

#include <unistd.h>

#include <cmath>
#include <iostream>

#include "launch/registry.h"

namespace polykv {

ProgressLine::ProgressLine() : terminal_(::isatty(STDERR_FILENO) == 1) {}

ProgressLine::~ProgressLine() { clear(); }

void ProgressLine::show(const std::string& text) {
  const auto now = std::chrono::steady_clock::now();
  if (!terminal_ || (shown_ && now - last_ < std::chrono::milliseconds(100))) return;
  last_ = now;
  shown_ = true;
  std::cerr << "\r\033[K" << text << std::flush;
}

void ProgressLine::show(const Message& progress) {
  const std::string phase = progress.text("phase");
  const bool counts_bytes = phase.ends_with(" the model");
  const auto amount = [&](std::string_view field) {
    const int64_t n = progress.integer(field);
    return counts_bytes ? megabytes(static_cast<uint64_t>(n)) : cat(n);
  };
  std::string text = cat(phase, ": ", amount("done"), " of ", amount("all"));
  if (phase == "prefill")
    text += cat(" layers, ", std::lround(progress.number("rate")), " tokens/s");
  if (phase == "agents") text += " attached";
  show(text);
}

void ProgressLine::clear() {
  if (shown_) std::cerr << "\r\033[K" << std::flush;
  shown_ = false;
}

}  // namespace polykv
