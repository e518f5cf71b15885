// Load or pack, and keep.
#include "writer/image_maker.h"

#include "ipc/log.h"
#include "model/image.h"
#include "model/image_cache.h"

namespace polykv {
namespace {

// A cache that does not work is nobody's failure but has to be known.
void complain(const Error& error, const char* instead) {
  log_line(LogLevel::warning, cat(error.message, "; ", instead));
}

// In a thread of its own: it gets all that it needs.
void store(const std::string& cache, const ImageSource& source, const SharedView& image,
           const std::vector<std::string>& notices) {
  const char* instead = "this image is not kept";
  const auto now = image_source(source.path, source.chat_format);
  if (!now) return complain(now.error(), instead);
  if (now->state != source.state) {
    return log_line(LogLevel::warning, cat("the files of ", source.path,
                                           " changed while they were packed; ", instead));
  }
  const auto opened = ImageCache::open(cache);
  if (!opened) return complain(opened.error(), instead);
  const auto stored = opened->store(source, image.data(), notices);
  if (!stored) return complain(stored.error(), instead);
  const std::string name = cat(cache, '/', ImageCache::file_name(source));
  log_line(LogLevel::info, *stored ? cat("the packed image is kept as ", name)
                                   : cat("another writer is just keeping ", name));
}

}  // namespace

Result<MadeImage> ImageMaker::pack(const std::string& path, const std::string& chat_format,
                                   const Progress& progress) const {
  MadeImage made;
  const auto report = [&](uint64_t done, uint64_t all) { progress("packing", done, all); };
  auto fd = pack_image(path, memory_room(), report, &made.notices, chat_format, n_threads_);
  if (!fd) return pass(fd);
  made.fd = std::move(*fd);
  return made;
}

void ImageMaker::keep(const ImageSource& source, const MadeImage& made) {
  auto own = made.fd.duplicate();
  auto view = own ? SharedView::map(std::move(*own)) : Result<SharedView>(pass(own));
  if (!view) return complain(view.error(), "this image is not kept");
  keeping_ = std::jthread([cache = cache_, source, image = std::move(*view),
                           notices = made.notices] { store(cache, source, image, notices); });
}

Result<MadeImage> ImageMaker::make(const std::string& path, const std::string& chat_format,
                                   const Progress& progress) {
  if (cache_.empty()) return pack(path, chat_format, progress);
  const auto source = image_source(path, chat_format);
  if (!source) return pack(path, chat_format, progress);  // which says what is wrong with the model
  const auto cache = ImageCache::open(cache_);
  if (!cache) {
    complain(cache.error(), "no image is kept");
    return pack(path, chat_format, progress);
  }
  const auto report = [&](uint64_t done, uint64_t all) { progress("loading", done, all); };
  ThreadTeam team(n_threads_);
  auto entry = cache->load(*source, memory_room(), team, report);
  if (entry && *entry) {
    log_line(LogLevel::info, cat("the image of ", path, " comes from the cache ", cache_));
    return MadeImage{std::move((*entry)->image), std::move((*entry)->notices), true};
  }
  if (!entry) complain(entry.error(), "the model is packed afresh");
  auto made = pack(path, chat_format, progress);
  if (made) keep(*source, *made);
  return made;
}

}  // namespace polykv
