// The directory, and what is read out of it.
#include "model/image_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>

#include "model/image.h"
#include "model/image_cache_format.h"
#include "model/image_format.h"

namespace polykv {
namespace {

constexpr uint64_t kReadBytes = uint64_t{1} << 20;  // by one thread at once
constexpr uint32_t kReadsInRound = 64;              // between two reports
constexpr uint64_t kTrailerBytes = sizeof(CacheTrailer);

// One entry on its way into memory.
class EntryReader {
 public:
  EntryReader(std::string where, UniqueFd file)
      : where_(std::move(where)), file_(std::move(file)) {}
  Status check_file();
  Status check_trailer(const ImageSource& source);
  Result<std::vector<std::string>> notices() const;
  Result<UniqueFd> image(const MemoryRoom& room, ThreadTeam& team,
                         const std::function<void(uint64_t, uint64_t)>& progress) const;

 private:
  std::unexpected<Error> bad(const std::string& what, std::string value = {}) const {
    return fail(ErrorCode::bad_segment, cat("the kept image ", where_, ' ', what),
                std::move(value));
  }
  bool read(uint64_t offset, std::span<std::byte> to) const;
  bool read_image(std::span<std::byte> to, ThreadTeam& team,
                  const std::function<void(uint64_t, uint64_t)>& progress) const;

  std::string where_;
  UniqueFd file_;
  uint64_t bytes_ = 0;
  CacheTrailer trailer_{};
};

// Not through a mapping: a file that somebody cuts off meanwhile would end the process.
bool EntryReader::read(uint64_t offset, std::span<std::byte> to) const {
  while (!to.empty()) {
    const ssize_t n = ::pread(file_.get(), to.data(), to.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    offset += static_cast<uint64_t>(n);
    to = to.subspan(static_cast<size_t>(n));
  }
  return true;
}

Status EntryReader::check_file() {
  struct stat info{};
  if (::fstat(file_.get(), &info) != 0) return fail_errno(cat("fstat of ", where_));
  if (!S_ISREG(info.st_mode)) return bad("is not a regular file");
  if (info.st_uid != ::geteuid()) return bad("belongs to another user", cat(info.st_uid));
  if ((info.st_mode & 022) != 0) return bad("can be written by others");
  bytes_ = static_cast<uint64_t>(info.st_size);
  if (bytes_ < sizeof(ImageHeader) + kTrailerBytes) return bad("is cut off", cat(bytes_));
  return {};
}

Status EntryReader::check_trailer(const ImageSource& source) {
  if (!read(bytes_ - kTrailerBytes, std::as_writable_bytes(std::span(&trailer_, 1)))) {
    return bad("cannot be read to its end");
  }
  CacheTrailer blank = trailer_;
  blank.trailer_checksum = 0;
  const bool whole = trailer_.magic == kCacheMagic &&
                     trailer_.trailer_checksum == checksum64(std::as_bytes(std::span(&blank, 1)));
  if (!whole) return bad("is cut off or changed: its end is not one of polykv");
  const bool plain = std::ranges::all_of(trailer_.reserved, [](uint8_t byte) { return byte == 0; });
  if (trailer_.version != kCacheVersion || trailer_.trailer_bytes != kTrailerBytes || !plain) {
    return bad("has another format", cat(trailer_.version));
  }
  const bool fits = trailer_.notices_bytes <= kNoticesMax &&
                    trailer_.image_bytes <= bytes_ - kTrailerBytes &&
                    trailer_.notices_bytes == bytes_ - kTrailerBytes - trailer_.image_bytes;
  if (!fits) return bad("does not have the size that its end says", cat(bytes_));
  if (std::memcmp(trailer_.place, source.place.data(), source.place.size()) != 0) {
    return bad("is of another model");
  }
  if (std::memcmp(trailer_.state, source.state.data(), source.state.size()) != 0) {
    return bad("is stale: the model's files have changed since, or polykv has");
  }
  return {};
}

Result<std::vector<std::string>> EntryReader::notices() const {
  std::string text(trailer_.notices_bytes, '\0');
  const auto bytes = std::as_writable_bytes(std::span(text));
  if (!read(trailer_.image_bytes, bytes) || checksum64(bytes) != trailer_.notices_checksum) {
    return bad("is changed: its notices do not have their checksum");
  }
  std::vector<std::string> lines;
  for (size_t at = 0, end; (end = text.find('\n', at)) != text.npos; at = end + 1) {
    lines.push_back(text.substr(at, end - at));
  }
  return lines;
}

bool EntryReader::read_image(std::span<std::byte> to, ThreadTeam& team,
                             const std::function<void(uint64_t, uint64_t)>& progress) const {
  std::atomic<bool> good = true;
  const auto reads = static_cast<uint32_t>((to.size() + kReadBytes - 1) / kReadBytes);
  for (uint32_t first = 0; first < reads && good; first += kReadsInRound) {
    if (progress) progress(first * kReadBytes, to.size());
    team.run(std::min(kReadsInRound, reads - first), 1, [&](uint32_t begin, uint32_t end) {
      for (uint32_t i = first + begin; i < first + end; ++i) {
        const uint64_t at = i * kReadBytes;
        if (!read(at, to.subspan(at, std::min(kReadBytes, to.size() - at)))) good = false;
      }
    });
  }
  if (progress && good) progress(to.size(), to.size());
  return good;
}

// Checked after it is sealed: what was checked is what will be used.
Result<UniqueFd> EntryReader::image(const MemoryRoom& room, ThreadTeam& team,
                                    const std::function<void(uint64_t, uint64_t)>& progress) const {
  auto builder = SharedBuilder::create("polykv-image", trailer_.image_bytes, room);
  if (!builder) return pass(builder);
  if (!read_image(builder->data(), team, progress)) return bad("cannot be read to its end");
  auto sealed = std::move(*builder).seal();
  if (!sealed) return pass(sealed);
  auto own = sealed->duplicate();
  if (!own) return pass(own);
  const auto image = ModelImage::map(std::move(*own), true);
  if (!image) return bad(cat("is changed: ", image.error().message));
  const bool same = std::ranges::equal(image->fingerprint(), trailer_.image_fingerprint);
  if (!same) return bad("holds another image than its end says", to_hex(image->fingerprint()));
  return sealed;
}

Status check_directory(int directory, const std::string& path) {
  struct stat info{};
  if (::fstat(directory, &info) != 0) return fail_errno(cat("image cache ", path));
  if (info.st_uid == ::geteuid() && (info.st_mode & 022) == 0) return {};
  return fail(ErrorCode::io,
              cat("image cache ", path,
                  " must belong to this user and be writable by nobody else: choose another "
                  "directory, or correct it with chmod 700"),
              path, "0700");
}

}  // namespace

Result<ImageCache> ImageCache::open(const std::string& directory) {
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
    return fail_errno(cat("create the image cache ", directory));
  }
  UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return fail_errno(cat("open the image cache ", directory, " (a directory, no link)"));
  if (auto good = check_directory(fd.get(), directory); !good) return pass(good);
  return ImageCache(directory, std::move(fd));
}

std::string ImageCache::file_name(const ImageSource& source) {
  return to_hex(source.place) + ".image";
}

Result<std::optional<ImageCache::Entry>> ImageCache::load(
    const ImageSource& source, const MemoryRoom& room, ThreadTeam& team,
    const std::function<void(uint64_t, uint64_t)>& progress) const {
  const std::string name = file_name(source), where = cat(path_, '/', name);
  // Without O_NONBLOCK the open of a pipe would wait for somebody to write.
  UniqueFd file(
      ::openat(directory_.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  if (!file && errno == ENOENT) return std::nullopt;
  if (!file) return fail_errno(cat("open the kept image ", where, " (a file, no link)"));
  EntryReader reader(where, std::move(file));
  auto checked = reader.check_file();
  if (checked) checked = reader.check_trailer(source);
  if (!checked) return pass(checked);
  auto notices = reader.notices();
  if (!notices) return pass(notices);
  auto image = reader.image(room, team, progress);
  if (!image) return pass(image);
  return Entry{std::move(*image), std::move(*notices)};
}

}  // namespace polykv
