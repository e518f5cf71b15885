// The image of a model: out of the cache, where one is kept and good, or packed and then kept.
#pragma once

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "ipc/fd.h"
#include "model/image_source.h"

namespace polykv {

struct MadeImage {
  UniqueFd fd;  // sealed
  std::vector<std::string> notices;
  bool from_cache = false;
};

class ImageMaker {
 public:
  // What is done, and how far: in bytes.
  using Progress = std::function<void(const char* phase, uint64_t done, uint64_t all)>;

  // cache: its directory, "" = none.
  ImageMaker(std::string cache, unsigned n_threads)
      : cache_(std::move(cache)), n_threads_(n_threads) {}
  // Waits until what is being kept is.
  ~ImageMaker() = default;
  ImageMaker(const ImageMaker&) = delete;
  ImageMaker& operator=(const ImageMaker&) = delete;

  // What is wrong with the cache is logged once and costs only time: the errors are those of
  // packing. The image is kept by a thread of its own, while it is used already.
  Result<MadeImage> make(const std::string& path, const std::string& chat_format,
                         const Progress& progress);

 private:
  Result<MadeImage> pack(const std::string& path, const std::string& chat_format,
                         const Progress& progress) const;
  void keep(const ImageSource& source, const MadeImage& made);

  std::string cache_;
  unsigned n_threads_;
  std::jthread keeping_;
};

}  // namespace polykv
