// Opening and mapping of a model file.
#include "model/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/fd.h"

namespace polykv {
namespace {

std::unexpected<Error> refuse(const std::string& path, const std::string& why) {
  return fail(ErrorCode::bad_model_file,
              cat("model file ", path, ": ", why, "; expected a readable file"), path);
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::string& path) {
  // Without O_NONBLOCK the open of a pipe would wait for somebody to write.
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return refuse(path, cat("cannot be opened: ", std::strerror(errno)));
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return refuse(path, std::strerror(errno));
  if (!S_ISREG(info.st_mode)) return refuse(path, "is not a regular file");
  if (info.st_size <= 0) return refuse(path, "is empty");
  const auto size = static_cast<size_t>(info.st_size);
  void* start = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (start == MAP_FAILED) return refuse(path, cat("cannot be mapped: ", std::strerror(errno)));
  return MappedFile({static_cast<const std::byte*>(start), size});
}

void forget_pages(std::span<const std::byte> part) {
  static const auto kPage = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto start = reinterpret_cast<uintptr_t>(part.data());
  const uintptr_t begin = start / kPage * kPage;  // a neighbour's bytes come back, too
  const std::byte* at = part.data() - (start - begin);
  // Only about memory: what the kernel refuses costs nothing else.
  (void)::madvise(const_cast<std::byte*>(at), start - begin + part.size(), MADV_DONTNEED);
}

MappedFile::~MappedFile() {
  if (bytes_.data() != nullptr) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace polykv
