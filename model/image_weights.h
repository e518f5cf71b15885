// The weights of an image, by a team of threads. What they need beside file and image is a list of
// pieces; of the file's pages no more than kRoundBytes and a piece per thread are mapped in at a
// time.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "model/image_repack.h"
#include "model/threads.h"

namespace polykv {

inline constexpr uint64_t kPieceBytes = uint64_t{256} << 10;  // of the file, about
inline constexpr uint64_t kRoundBytes = uint64_t{32} << 20;   // of the file, between two reports

struct WeightToPack {
  const FileTensor* from;
  Weight form;
  std::span<std::byte> values, scales;  // zero
};

// Fills all of them, the same bytes whatever the size of the team. done(bytes of the image) is
// called by the caller's thread. bad_model_file of the first tensor that holds a number which is
// not finite.
Status pack_weights(std::span<const WeightToPack> weights, ThreadTeam& team,
                    const std::function<void(uint64_t)>& done);

}  // namespace polykv
