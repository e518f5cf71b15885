// One prefill job: new tokens after a (possibly empty) list of encoded segments, into one new
// segment per codec.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "model/kernels.h"
#include "model/prefill.h"
#include "writer/encoders.h"

namespace polykv {

struct SegmentJob {
  std::vector<uint32_t> tokens;  // [n_tokens] new tokens
  std::vector<SegmentView>
      past;  // segments before them, in order; prefill attends to what they encode
  std::vector<CodecSpec> codecs;
  MemoryRoom room;
  std::string holders;     // who holds the memory now, for the refusal's sentence
  bool per_layer = false;  // measure each layer, for eval
  unsigned n_threads = 1;
  PrefillPrecision precision = PrefillPrecision::best;        // best: or fast, where all are coarse
  const Kernels* kernels = nullptr;                           // for packed weights; null: libtorch
  bool tiles = true;                                          // passed their self-test
  std::function<void(uint32_t done, uint32_t all)> progress;  // layers
  std::function<Status()> go_on;  // asked after every layer, if set: its error ends the job
};

// Reserves all segments before it computes anything, so that a refusal costs no prefill.
// Returns sealed segments in the order of `codecs`.
Result<std::vector<MadeSegment>> run_segment_job(const ModelImage& image, const SegmentJob& job);

}  // namespace polykv
