// The segments of one job while they are filled: one for each codec, layer by layer.
#pragma once

#include <string>
#include <vector>

#include "ipc/message.h"
#include "ipc/segment.h"
#include "model/prefill.h"

namespace polykv {

struct MadeSegment {
  UniqueFd fd;                  // sealed
  std::vector<Message> layers;  // layer_stats of each, if they were asked for
  std::string precision = {};   // how its prefill was computed (model/prefill_path.h)
};

class Encoders {
 public:
  // Reserves all, as if no plane were widened: memory_limit before anything is computed. holders:
  // who holds the memory now, for the refusal's sentence.
  static Result<Encoders> reserve(const std::vector<SegmentSpec>& specs, const MemoryRoom& room,
                                  const std::string& holders);
  // Encodes a layer; n_heads: of queries. memory_limit if its K takes more bits than there is room
  // for.
  Status put(const LayerKv& kv, uint32_t n_heads, const Spread& spread);
  // From now on put() measures what it encodes, too.
  void measure() { measures_ = true; }
  // In the order of the specs. Logs which planes of K were widened.
  Result<std::vector<MadeSegment>> seal() &&;

 private:
  struct One {
    SegmentBuilder builder;
    std::vector<Message> layers;
  };
  Status make_room(uint64_t more);

  std::vector<One> all_;
  MemoryRoom room_;
  std::string holders_;
  uint64_t bytes_ = 0;  // of all segments
  bool measures_ = false;
};

}  // namespace polykv
