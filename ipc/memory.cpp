// Sealed shared memory on the host: the only file that sees Boost.Interprocess.
#include "ipc/memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <boost/interprocess/mapped_region.hpp>
#include <optional>

namespace polykv {
namespace {

namespace bip = boost::interprocess;

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;

// What mapped_region asks of a mappable object.
struct FdMappable {
  int fd;
  bip::mapping_handle_t get_mapping_handle() const {
    return bip::ipcdetail::mapping_handle_from_file_handle(fd);
  }
};

// Agents read all of the weights and of the pool for every token. Out of 4 KiB pages that costs a
// walk through the page tables every 4 KiB: huge pages spare it, where the kernel gives any.
constexpr uint64_t kHugePage = uint64_t{2} << 20;

// An address at which huge pages of a file can be mapped as such; nullptr: none is needed, or none
// is free. Others may take it before it is used.
void* huge_page_address(uint64_t bytes) {
  if (bytes < kHugePage) return nullptr;
  const uint64_t with_room = bytes + kHugePage;
  void* free = ::mmap(nullptr, with_room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (free == MAP_FAILED) return nullptr;
  ::munmap(free, with_room);
  const uint64_t past = reinterpret_cast<uintptr_t>(free) % kHugePage;
  return static_cast<std::byte*>(free) + (kHugePage - past) % kHugePage;
}

// Puts whole huge pages under memory that has been filled. A kernel that has none left, or does not
// know how, leaves everything as it is.
void use_huge_pages(std::span<std::byte> memory) {
#ifdef MADV_COLLAPSE
  constexpr int kCollapse = MADV_COLLAPSE;
#else
  constexpr int kCollapse = 25;  // Linux 6.1; older headers lack the name
#endif
  if (reinterpret_cast<uintptr_t>(memory.data()) % kHugePage != 0) return;
  for (uint64_t at = 0; at + kHugePage <= memory.size(); at += kHugePage) {
    if (::madvise(memory.data() + at, kHugePage, kCollapse) != 0) return;
  }
}

// REQUIRES: the file has at least `bytes` bytes (mapped_region accepts more, and faults later).
Result<bip::mapped_region> map_region(int fd, bip::mode_t mode, uint64_t bytes) {
  try {
    if (void* address = huge_page_address(bytes)) {
      return bip::mapped_region(FdMappable{fd}, mode, 0, bytes, address);
    }
  } catch (const bip::interprocess_exception&) {  // taken meanwhile: anywhere, then
  }
  try {
    return bip::mapped_region(FdMappable{fd}, mode, 0, bytes);
  } catch (const bip::interprocess_exception& error) {
    return fail(ErrorCode::io, cat("map ", bytes, " bytes of shared memory: ", error.what()),
                cat(bytes));
  }
}

Status reserve(int fd, uint64_t bytes) {
  int error = EINTR;
  while (error == EINTR) error = ::posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  if (error == 0) return {};
  if (error == ENOSPC || error == ENOMEM || error == EFBIG) {
    return fail(ErrorCode::memory_limit,
                cat("the kernel refuses to reserve ", bytes, " bytes of shared memory: ",
                    std::strerror(error), "; free memory or use a shorter context"),
                cat(bytes));
  }
  return fail_errno(cat("reserve ", bytes, " bytes of shared memory"), error);
}

Status check_size(uint64_t bytes) {
  if (bytes > 0 && bytes <= static_cast<uint64_t>(INT64_MAX)) return {};
  return fail(ErrorCode::memory_limit, cat(bytes, " bytes is no size for shared memory"),
              cat(bytes), "1..2^63-1");
}

Status check_seals(int fd) {
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0) {
    return fail(ErrorCode::bad_segment,
                "this file descriptor is not sealable memory (memfd); polykv shares nothing else");
  }
  if ((seals & kSeals) == kSeals) return {};
  return fail(ErrorCode::bad_segment,
              cat("shared memory lacks seals: found ", seals, ", wanted at least ", kSeals,
                  " (shrink, grow, write, seal); whoever made it could still change it"),
              cat(seals), cat(kSeals));
}

Result<uint64_t> checked_size(int fd, uint64_t expected_bytes) {
  struct stat info{};
  if (::fstat(fd, &info) != 0) return fail_errno("fstat of shared memory");
  const uint64_t bytes = static_cast<uint64_t>(info.st_size);
  if (bytes == 0 || (expected_bytes != 0 && bytes != expected_bytes)) {
    return fail(ErrorCode::bad_segment,
                cat("shared memory has ", bytes, " bytes, wanted ",
                    expected_bytes ? cat(expected_bytes) : std::string("more than 0")),
                cat(bytes), cat(expected_bytes));
  }
  return bytes;
}

// Kernels before 6.7 refuse to map write-sealed memory through a descriptor open for writing.
Result<UniqueFd> read_only(UniqueFd fd) {
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags < 0) return fail_errno("read the mode of shared memory");
  if ((flags & O_ACCMODE) == O_RDONLY) return fd;
  return reopen_read_only(fd.get());
}

}  // namespace

struct SharedBuilder::State {
  UniqueFd fd;
  std::optional<bip::mapped_region> region;
};

SharedBuilder::SharedBuilder(std::unique_ptr<State> state) : state_(std::move(state)) {}
SharedBuilder::SharedBuilder(SharedBuilder&&) noexcept = default;
SharedBuilder& SharedBuilder::operator=(SharedBuilder&&) noexcept = default;
SharedBuilder::~SharedBuilder() = default;

Result<SharedBuilder> SharedBuilder::create(const std::string& name, uint64_t bytes,
                                            const MemoryRoom& room) {
  if (const Status ok = check_size(bytes); !ok) return pass(ok);
  if (const Status ok = check_room(bytes, room); !ok) return pass(ok);
  UniqueFd fd(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return fail_errno(cat("create shared memory '", name, "'"));
  if (const Status ok = reserve(fd.get(), bytes); !ok) return pass(ok);
  auto region = map_region(fd.get(), bip::read_write, bytes);
  if (!region) return pass(region);
  return SharedBuilder(
      std::make_unique<State>(State{std::move(fd), std::optional(std::move(*region))}));
}

std::span<std::byte> SharedBuilder::data() {
  check(state_ != nullptr, "a sealed builder has no data");
  return {static_cast<std::byte*>(state_->region->get_address()), state_->region->get_size()};
}

Status SharedBuilder::grow(uint64_t bytes) {
  check(state_ != nullptr && bytes >= data().size(), "only memory that is not sealed yet grows");
  if (const Status ok = check_size(bytes); !ok) return ok;
  if (const Status ok = reserve(state_->fd.get(), bytes); !ok) return ok;
  auto region = map_region(state_->fd.get(), bip::read_write, bytes);
  if (!region) return pass(region);
  state_->region = std::move(*region);
  return {};
}

Result<UniqueFd> SharedBuilder::seal() && {
  check(state_ != nullptr, "a builder is sealed once");
  use_huge_pages(data());
  const std::unique_ptr<State> state = std::move(state_);
  state->region.reset();  // F_SEAL_WRITE fails with EBUSY while a writable mapping lives
  if (::fcntl(state->fd.get(), F_ADD_SEALS, kSeals) != 0) return fail_errno("seal shared memory");
  return reopen_read_only(state->fd.get());
}

struct SharedView::State {
  UniqueFd fd;
  bip::mapped_region region;
};

SharedView::SharedView(std::unique_ptr<State> state) : state_(std::move(state)) {}
SharedView::SharedView(SharedView&&) noexcept = default;
SharedView& SharedView::operator=(SharedView&&) noexcept = default;
SharedView::~SharedView() = default;

Result<SharedView> SharedView::map(UniqueFd fd, uint64_t expected_bytes) {
  // Seals first: only then can the size no longer change between the check and the mapping.
  if (const Status ok = check_seals(fd.get()); !ok) return pass(ok);
  const auto bytes = checked_size(fd.get(), expected_bytes);
  if (!bytes) return pass(bytes);
  auto readable = read_only(std::move(fd));
  if (!readable) return pass(readable);
  auto region = map_region(readable->get(), bip::read_only, *bytes);
  if (!region) return pass(region);
  return SharedView(std::make_unique<State>(State{std::move(*readable), std::move(*region)}));
}

std::span<const std::byte> SharedView::data() const {
  return {static_cast<const std::byte*>(state_->region.get_address()), state_->region.get_size()};
}

int SharedView::fd() const { return state_->fd.get(); }

Result<UniqueFd> share_bytes(const std::string& name, std::span<const std::byte> bytes,
                             const MemoryRoom& room) {
  auto builder = SharedBuilder::create(name, bytes.size(), room);
  if (!builder) return pass(builder);
  std::copy(bytes.begin(), bytes.end(), builder->data().begin());
  return std::move(*builder).seal();
}

Result<UniqueFd> reopen_read_only(int fd) {
  UniqueFd copy(::open(cat("/proc/self/fd/", fd).c_str(), O_RDONLY | O_CLOEXEC));
  if (!copy) return fail_errno("reopen shared memory read-only (is /proc mounted?)");
  return copy;
}

}  // namespace polykv
