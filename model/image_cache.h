// A directory that keeps packed images, one file for each model (docs/format.md, "Image cache").
// Nothing in it is trusted: an image is used only after all of its bytes were checked, where nobody
// can change them any more.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ipc/fd.h"
#include "ipc/limits.h"
#include "ipc/memory.h"
#include "model/image_source.h"
#include "model/threads.h"

namespace polykv {

class ImageCache {
 public:
  struct Entry {
    UniqueFd image;  // sealed
    std::vector<std::string> notices;
  };

  // Makes the directory (mode 0700) if it is not there. io: it cannot be made, is no directory or a
  // link to one, belongs to somebody else, or others may write to it.
  static Result<ImageCache> open(const std::string& directory);

  // nullopt: nothing is kept for this place. Errors say why what is kept is not used: bad_segment
  // (of another state, cut off, changed, of somebody else), memory_limit. The image's memory is
  // filled by the team; progress(done_bytes, all_bytes) may be empty.
  Result<std::optional<Entry>> load(const ImageSource& source, const MemoryRoom& room,
                                    ThreadTeam& team,
                                    const std::function<void(uint64_t, uint64_t)>& progress) const;

  // Keeps an image in place of what was kept. Nobody ever sees a part of it: it gets its name when
  // it is on the disk as a whole. False: it was not kept, because somebody else is just writing the
  // same one. io, memory_limit: no space, or not allowed.
  Result<bool> store(const ImageSource& source, std::span<const std::byte> image,
                     const std::vector<std::string>& notices) const;

  // The file of a model, below the directory.
  static std::string file_name(const ImageSource& source);

 private:
  ImageCache(std::string path, UniqueFd directory)
      : path_(std::move(path)), directory_(std::move(directory)) {}
  std::string path_;  // for messages
  UniqueFd directory_;
};

}  // namespace polykv
