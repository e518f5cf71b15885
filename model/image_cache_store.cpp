// How an image gets into the cache: written under another name, moved to its own when it is whole.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "model/image_cache.h"
#include "model/image_cache_format.h"
#include "model/image_format.h"

namespace polykv {
namespace {

// A file that is being written. Its lock says that somebody is at it: what a writer that died has
// left is taken over by the next one.
class Part {
 public:
  Part(int directory, std::string name, std::string where)
      : directory_(directory), name_(std::move(name)), where_(std::move(where)) {}
  Result<bool> take();
  Status reserve(uint64_t bytes) const;
  Status write(std::span<const std::byte> bytes);
  Status become(const std::string& name);
  void drop() const { ::unlinkat(directory_, name_.c_str(), 0); }

 private:
  std::unexpected<Error> failed(const char* what, int error = errno) const {
    return fail_errno(cat(what, ' ', where_), error);
  }
  int directory_;
  std::string name_, where_;
  UniqueFd file_;
  uint64_t written_ = 0;
};

// False: somebody else is writing it.
Result<bool> Part::take() {
  file_ = UniqueFd(::openat(directory_, name_.c_str(),
                            O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600));
  if (!file_) return failed("create");
  if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return false;
    return failed("lock");
  }
  // Until the lock was ours, another writer may have moved it to its own name.
  struct stat mine{}, named{};
  if (::fstat(file_.get(), &mine) != 0) return failed("fstat of");
  if (::fstatat(directory_, name_.c_str(), &named, AT_SYMLINK_NOFOLLOW) != 0) return false;
  if (mine.st_ino != named.st_ino || mine.st_dev != named.st_dev) return false;
  if (!S_ISREG(mine.st_mode) || mine.st_uid != ::geteuid() || mine.st_nlink != 1) {
    return fail(ErrorCode::io, cat(where_, " is not a file of this user: remove it"), where_);
  }
  if (::fchmod(file_.get(), 0600) != 0 || ::ftruncate(file_.get(), 0) != 0) return failed("empty");
  return true;
}

// So that a full disk is noticed before anything is written. Some file systems cannot say.
Status Part::reserve(uint64_t bytes) const {
  MemoryRoom room;
  room.file_size = memory_room().file_size;  // past it the kernel would end the process
  if (auto fits = check_room(bytes, room); !fits) return fits;
  if (::fallocate(file_.get(), 0, 0, static_cast<off_t>(bytes)) == 0) return {};
  if (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINTR) return {};
  return failed("reserve space for");
}

Status Part::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n =
        ::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(written_));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return failed("write", n == 0 ? ENOSPC : errno);
    written_ += static_cast<uint64_t>(n);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return {};
}

Status Part::become(const std::string& name) {
  if (::fsync(file_.get()) != 0) return failed("fsync of");
  if (::renameat(directory_, name_.c_str(), directory_, name.c_str()) != 0) return failed("rename");
  (void)::fsync(directory_);  // a name that a power cut takes away costs the next start time alone
  return {};
}

std::string lines_of(const std::vector<std::string>& notices) {
  std::string text;
  for (const std::string& notice : notices) {
    if (text.size() + notice.size() < kNoticesMax) text += notice + '\n';
  }
  return text;
}

CacheTrailer trailer_of(const ImageSource& source, std::span<const std::byte> image,
                        const std::string& notices) {
  ImageHeader header;
  std::memcpy(&header, image.data(), sizeof header);
  CacheTrailer trailer{};
  trailer.magic = kCacheMagic;
  trailer.version = kCacheVersion;
  trailer.trailer_bytes = sizeof trailer;
  trailer.image_bytes = image.size();
  trailer.notices_bytes = notices.size();
  std::ranges::copy(source.place, trailer.place);
  std::ranges::copy(source.state, trailer.state);
  std::ranges::copy(header.fingerprint, trailer.image_fingerprint);
  trailer.notices_checksum = checksum64(std::as_bytes(std::span(notices)));
  trailer.trailer_checksum = checksum64(std::as_bytes(std::span(&trailer, 1)));
  return trailer;
}

}  // namespace

Result<bool> ImageCache::store(const ImageSource& source, std::span<const std::byte> image,
                               const std::vector<std::string>& notices) const {
  check(image.size() >= sizeof(ImageHeader), "ImageCache::store: an image has a header");
  const std::string text = lines_of(notices);
  const CacheTrailer trailer = trailer_of(source, image, text);
  const std::string name = file_name(source);
  Part part(directory_.get(), name + ".part", cat(path_, '/', name, ".part"));
  const auto taken = part.take();
  if (!taken || !*taken) return taken;
  auto done = part.reserve(image.size() + text.size() + sizeof trailer);
  if (done) done = part.write(image);
  if (done) done = part.write(std::as_bytes(std::span(text)));
  if (done) done = part.write(std::as_bytes(std::span(&trailer, 1)));
  if (done) done = part.become(name);
  if (done) return true;
  part.drop();
  return pass(done);
}

}  // namespace polykv
