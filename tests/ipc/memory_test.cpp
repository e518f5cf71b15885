// Sealed memory: nobody can write it, by any way the kernel offers, in this process or another.
#include "ipc/memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "ipc/checksum.h"
#include "tests/ipc/temp_dir.h"

namespace polykv {
namespace {

constexpr size_t kBytes = 3 * 4096 + 17;
constexpr int kAllRefused = 42;  // exit code of the probing child: no accident returns it

std::byte pattern(size_t i) { return static_cast<std::byte>(i * 31 + 7); }

UniqueFd sealed_pattern(const std::string& name = "polykv-test") {
  auto builder = SharedBuilder::create(name, kBytes, memory_room());
  EXPECT_TRUE(builder) << builder.error().message;
  for (size_t i = 0; i < kBytes; ++i) builder->data()[i] = pattern(i);
  auto fd = std::move(*builder).seal();
  EXPECT_TRUE(fd) << fd.error().message;
  return std::move(*fd);
}

bool holds_pattern(std::span<const std::byte> data) {
  if (data.size() != kBytes) return false;
  for (size_t i = 0; i < kBytes; ++i) {
    if (data[i] != pattern(i)) return false;
  }
  return true;
}

void note(std::vector<std::string>& taken, bool succeeded, const std::string& what) {
  if (succeeded) taken.push_back(what);
}

// Every way to change a file through one descriptor; returns those that the kernel let through.
void try_fd(std::vector<std::string>& taken, int fd, const std::string& how) {
  const char byte = 'X';
  void* map = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  note(taken, map != MAP_FAILED, how + ": writable shared mapping");
  if (map != MAP_FAILED) ::munmap(map, 4096);
  map = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);
  if (map != MAP_FAILED) {
    note(taken, ::mprotect(map, 4096, PROT_READ | PROT_WRITE) == 0, how + ": mprotect");
    const UniqueFd memory(::open("/proc/self/mem", O_RDWR | O_CLOEXEC));
    note(taken, ::pwrite(memory.get(), &byte, 1, reinterpret_cast<off_t>(map)) == 1,
         how + ": /proc/self/mem");
    ::munmap(map, 4096);
  }
  note(taken, ::pwrite(fd, &byte, 1, 0) == 1, how + ": pwrite");
  note(taken, ::write(fd, &byte, 1) == 1, how + ": write");
  note(taken, ::ftruncate(fd, 1) == 0, how + ": shrink");
  note(taken, ::ftruncate(fd, 1 << 20) == 0, how + ": grow");
  const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  note(taken, ::fallocate(fd, punch, 0, 4096) == 0, how + ": punch a hole");
  note(taken, ::fallocate(fd, 0, 0, 1 << 20) == 0, how + ": fallocate past the end");
  note(taken, ::fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0, how + ": change the seals");
}

std::vector<std::string> attacks_that_succeed(int fd) {
  std::vector<std::string> taken;
  try_fd(taken, fd, "the descriptor");
  const std::string path = cat("/proc/self/fd/", fd);
  const UniqueFd writable(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (writable) try_fd(taken, writable.get(), "a read-write reopen");
  const UniqueFd truncated(::open(path.c_str(), O_RDWR | O_TRUNC | O_CLOEXEC));
  note(taken, static_cast<bool>(truncated), "a truncating reopen");
  note(taken, ::truncate(path.c_str(), 1) == 0, "truncate by path");
  return taken;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += word + "; ";
  return text;
}

int exit_code(pid_t child) {
  int status = 0;
  if (::waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

TEST(SealedMemory, the_attacks_do_succeed_on_unsealed_memory) {
  const UniqueFd fd(::memfd_create("open", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(fd.get(), kBytes), 0);
  const auto taken = attacks_that_succeed(fd.get());
  EXPECT_GE(taken.size(), 15u) << joined(taken);
}

TEST(SealedMemory, every_write_is_refused_in_the_creating_process) {
  const UniqueFd fd = sealed_pattern();
  EXPECT_EQ(joined(attacks_that_succeed(fd.get())), "");
  auto view = SharedView::map(reopen_read_only(fd.get()).value());
  ASSERT_TRUE(view);
  EXPECT_TRUE(holds_pattern(view->data()));
  EXPECT_EQ(joined(attacks_that_succeed(view->fd())), "");
}

TEST(SealedMemory, every_write_is_refused_in_a_forked_process) {
  const UniqueFd fd = sealed_pattern();
  const pid_t child = ::fork();
  if (child == 0) ::_exit(attacks_that_succeed(fd.get()).empty() ? kAllRefused : 1);
  EXPECT_EQ(exit_code(child), kAllRefused);
  EXPECT_TRUE(holds_pattern(SharedView::map(fd.duplicate().value())->data()));
}

TEST(SealedMemory, every_write_is_refused_in_another_program) {
  const UniqueFd fd = sealed_pattern();
  const pid_t child = ::fork();
  if (child == 0) {
    ::fcntl(fd.get(), F_SETFD, 0);
    ::setenv("POLYKV_PROBE_FD", cat(fd.get()).c_str(), 1);
    ::execl("/proc/self/exe", "probe", nullptr);  // main(), below, attacks and ends
    ::_exit(2);
  }
  EXPECT_EQ(exit_code(child), kAllRefused);
  EXPECT_TRUE(holds_pattern(SharedView::map(fd.duplicate().value())->data()));
}

TEST(SealedMemoryDeath, a_write_through_the_mapping_kills_the_writer_only) {
  const auto view = SharedView::map(sealed_pattern());
  ASSERT_TRUE(view);
  auto* byte = const_cast<volatile std::byte*>(view->data().data());
  EXPECT_DEATH(*byte = std::byte{0}, "");
  EXPECT_TRUE(holds_pattern(view->data()));
}

TEST(SharedBuilder, gives_zeroed_bytes_of_the_asked_size) {
  auto builder = SharedBuilder::create("polykv-test", kBytes, memory_room());
  ASSERT_TRUE(builder);
  ASSERT_EQ(builder->data().size(), kBytes);
  EXPECT_TRUE(std::ranges::all_of(builder->data(), [](std::byte b) { return b == std::byte{0}; }));
}

// Whether it gets huge pages is the kernel's; that it could is ours.
TEST(SharedBuilder, large_memory_lies_where_huge_pages_fit_and_reads_as_written) {
  constexpr uint64_t kHugePage = uint64_t{2} << 20;
  for (const uint64_t bytes : {kHugePage - 1, kHugePage, 3 * kHugePage + 5}) {
    auto builder = SharedBuilder::create("polykv-test", bytes, memory_room());
    ASSERT_TRUE(builder);
    std::ranges::generate(builder->data(), [i = size_t{0}]() mutable { return pattern(i++); });
    const auto view = SharedView::map(*std::move(*builder).seal());
    ASSERT_TRUE(view) << view.error().message;
    ASSERT_EQ(view->data().size(), bytes);
    if (bytes >= kHugePage) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(view->data().data()) % kHugePage, 0u);
    }
    for (size_t i = 0; i < bytes; i += 509) ASSERT_EQ(view->data()[i], pattern(i)) << i;
    EXPECT_EQ(view->data().back(), pattern(bytes - 1));
  }
}

TEST(SharedBuilder, grows_with_what_it_holds_and_zeros_behind_it) {
  auto builder = SharedBuilder::create("polykv-test", kBytes, memory_room());
  ASSERT_TRUE(builder);
  for (size_t i = 0; i < kBytes; ++i) builder->data()[i] = pattern(i);
  constexpr size_t kMore = 3 << 20;
  ASSERT_TRUE(builder->grow(kMore));
  ASSERT_EQ(builder->data().size(), kMore);
  EXPECT_TRUE(holds_pattern(builder->data().first(kBytes)));
  const auto behind = builder->data().subspan(kBytes);
  EXPECT_EQ(std::ranges::count(behind, std::byte{0}), behind.size());
  builder->data().back() = std::byte{7};
  const auto view = SharedView::map(*std::move(*builder).seal(), kMore);
  ASSERT_TRUE(view);
  EXPECT_TRUE(holds_pattern(view->data().first(kBytes)));
  EXPECT_EQ(view->data().back(), std::byte{7});
}

TEST(SharedBuilder, that_cannot_grow_stays_as_it_was) {
  auto builder = SharedBuilder::create("polykv-test", kBytes, memory_room());
  ASSERT_TRUE(builder);
  for (size_t i = 0; i < kBytes; ++i) builder->data()[i] = pattern(i);
  const Status grown = builder->grow(uint64_t{1} << 63);
  ASSERT_FALSE(grown);
  EXPECT_EQ(grown.error().code, ErrorCode::memory_limit);
  EXPECT_TRUE(holds_pattern(builder->data()));
  EXPECT_TRUE(SharedView::map(*std::move(*builder).seal(), kBytes));
}

TEST(SharedBuilder, absurd_sizes_are_refused_with_the_value) {
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{1} << 63, ~uint64_t{0}}) {
    const auto builder = SharedBuilder::create("polykv-test", bytes, MemoryRoom{});
    ASSERT_FALSE(builder);
    EXPECT_EQ(builder.error().code, ErrorCode::memory_limit);
    EXPECT_EQ(builder.error().value, cat(bytes));
  }
}

TEST(SharedBuilder, asks_the_limits_before_it_takes_anything) {
  const auto builder = SharedBuilder::create("polykv-test", 4097, MemoryRoom{.budget = 4096});
  ASSERT_FALSE(builder);
  EXPECT_EQ(builder.error().code, ErrorCode::memory_limit);
  EXPECT_EQ(builder.error().value, "4097");
  EXPECT_EQ(builder.error().limit, "4096");
  EXPECT_TRUE(SharedBuilder::create("polykv-test", 4096, MemoryRoom{.budget = 4096}));
}

TEST(SharedBuilder, past_the_file_size_limit_is_an_error_and_no_signal) {
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit limit{1 << 20, 1 << 20};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const auto fits = SharedBuilder::create("polykv-test", 1 << 20, memory_room());
    const auto over = SharedBuilder::create("polykv-test", (1 << 20) + 1, memory_room());
    const bool ok = fits && !over && over.error().code == ErrorCode::memory_limit &&
                    over.error().message.find("RLIMIT_FSIZE") != std::string::npos &&
                    over.error().limit == "1048576";
    ::_exit(ok ? kAllRefused : 1);
  }
  EXPECT_EQ(exit_code(child), kAllRefused);
}

TEST(SharedBuilderDeath, has_no_data_after_it_was_sealed) {
  auto builder = SharedBuilder::create("polykv-test", 10, memory_room());
  ASSERT_TRUE(builder);
  ASSERT_TRUE(std::move(*builder).seal());
  EXPECT_DEATH((void)builder->data(), "sealed builder");
}

TEST(SharedView, shows_the_bytes_that_were_sealed) {
  const auto view = SharedView::map(sealed_pattern(), kBytes);
  ASSERT_TRUE(view) << view.error().message;
  EXPECT_TRUE(holds_pattern(view->data()));
}

TEST(SharedView, takes_a_read_write_descriptor_by_reopening_it) {
  const UniqueFd fd = sealed_pattern();
  UniqueFd writable(::open(cat("/proc/self/fd/", fd.get()).c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_TRUE(writable);
  const auto view = SharedView::map(std::move(writable));
  ASSERT_TRUE(view) << view.error().message;
  EXPECT_TRUE(holds_pattern(view->data()));
  EXPECT_EQ(::fcntl(view->fd(), F_GETFL) & O_ACCMODE, O_RDONLY);
}

TEST(SharedView, refuses_memory_that_lacks_any_one_seal) {
  constexpr int kAll[] = {F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE, F_SEAL_SEAL};
  for (const int missing : kAll) {
    UniqueFd fd(::memfd_create("partly", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    ASSERT_EQ(::ftruncate(fd.get(), kBytes), 0);
    for (const int seal : kAll) {
      if (seal == missing) continue;
      ASSERT_EQ(::fcntl(fd.get(), F_ADD_SEALS, seal), 0);
    }
    const auto view = SharedView::map(std::move(fd));
    ASSERT_FALSE(view) << missing;
    EXPECT_EQ(view.error().code, ErrorCode::bad_segment);
    EXPECT_EQ(view.error().value,
              cat((F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) & ~missing));
  }
}

TEST(SharedView, refuses_another_size_and_an_empty_memory) {
  for (const uint64_t expected : {kBytes - 1, kBytes + 1, ~size_t{0}}) {
    const auto view = SharedView::map(sealed_pattern(), expected);
    ASSERT_FALSE(view);
    EXPECT_EQ(view.error().code, ErrorCode::bad_segment);
    EXPECT_EQ(view.error().value, cat(kBytes));
    EXPECT_EQ(view.error().limit, cat(expected));
  }
  UniqueFd empty(::memfd_create("empty", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(
      ::fcntl(empty.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL),
      0);
  const auto view = SharedView::map(std::move(empty));
  ASSERT_FALSE(view);
  EXPECT_EQ(view.error().code, ErrorCode::bad_segment);
}

TEST(SharedView, refuses_what_is_no_sealable_memory) {
  const TempDir directory;
  std::ofstream(directory / "file") << std::string(kBytes, 'x');
  const char* const paths[] = {"/dev/null", "/dev/zero"};
  std::vector<UniqueFd> fds;
  for (const char* path : paths) fds.emplace_back(::open(path, O_RDONLY | O_CLOEXEC));
  fds.emplace_back(::open((directory / "file").c_str(), O_RDONLY | O_CLOEXEC));
  fds.emplace_back();  // no descriptor at all
  for (UniqueFd& fd : fds) {
    const auto view = SharedView::map(std::move(fd));
    ASSERT_FALSE(view);
    EXPECT_EQ(view.error().code, ErrorCode::bad_segment);
  }
}

// Descriptors and mappings of this process that refer to the memory called `name`.
size_t references(const std::string& name) {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code ignored;
    const std::string target = std::filesystem::read_symlink(entry.path(), ignored);
    count += target.find(name) != std::string::npos;
  }
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) count += line.find(name) != std::string::npos;
  return count;
}

// The kernel frees a memfd with its last reference, so holding none is all that there is to do.
TEST(SharedView, keeps_one_descriptor_and_one_mapping_and_leaves_none) {
  const std::string name = cat("polykv-test-references-", ::getpid());
  {
    const auto view = SharedView::map(sealed_pattern(name));
    ASSERT_TRUE(view);
    EXPECT_EQ(references(name), 2u);
  }
  EXPECT_EQ(references(name), 0u);
  {
    auto abandoned = SharedBuilder::create(name, kBytes, memory_room());
  }
  EXPECT_EQ(references(name), 0u);
  (void)SharedView::map(sealed_pattern(name), kBytes + 1);  // a refused one
  EXPECT_EQ(references(name), 0u);
}

TEST(SharedView, descriptors_do_not_cross_exec) {
  const UniqueFd fd = sealed_pattern();
  EXPECT_NE(::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_NE(::fcntl(fd.duplicate()->get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_NE(::fcntl(reopen_read_only(fd.get())->get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(ShareBytes, shares_a_copy_of_the_bytes) {
  const std::string text = "a question";
  auto fd = share_bytes("polykv-test", std::as_bytes(std::span(text)), memory_room());
  ASSERT_TRUE(fd);
  const auto view = SharedView::map(std::move(*fd), text.size());
  ASSERT_TRUE(view);
  EXPECT_EQ(std::memcmp(view->data().data(), text.data(), text.size()), 0);
  EXPECT_FALSE(share_bytes("polykv-test", {}, memory_room()));
}

TEST(UniqueFd, closes_what_it_owns_once) {
  const int number = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  {
    UniqueFd first(number);
    const UniqueFd second = std::move(first);
    EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move): moved-from is its promise
    EXPECT_EQ(second.get(), number);
  }
  EXPECT_EQ(::fcntl(number, F_GETFD), -1);
  EXPECT_FALSE(UniqueFd().duplicate());
}

TEST(Fingerprint, hex_round_trip_and_refusals) {
  const std::string bytes = "polykv";
  const Fingerprint fingerprint = fingerprint128(std::as_bytes(std::span(bytes)));
  const std::string hex = to_hex(fingerprint);
  EXPECT_EQ(hex.size(), 32u);
  EXPECT_EQ(fingerprint_from_hex(hex).value(), fingerprint);
  for (const std::string& bad : {std::string(), hex.substr(1), hex + "0", "G" + hex.substr(1)}) {
    const auto parsed = fingerprint_from_hex(bad);
    ASSERT_FALSE(parsed) << bad;
    EXPECT_EQ(parsed.error().value, bad);
  }
}

// Reference values of XXH3 (its own test program's empty input): the format depends on them.
TEST(Checksum, is_xxh3) {
  EXPECT_EQ(checksum64({}), 0x2d06800538d394c2u);
  EXPECT_EQ(to_hex(fingerprint128({})), "99aa06d3014798d86001c324468d497f");
}

// As another program: attacks the descriptor that it inherited.
int probe(int fd) {
  const auto taken = attacks_that_succeed(fd);
  std::fputs(joined(taken).c_str(), stderr);
  return taken.empty() ? kAllRefused : 1;
}

}  // namespace
}  // namespace polykv

int main(int argc, char** argv) {
  if (const char* fd = std::getenv("POLYKV_PROBE_FD"))
    return polykv::probe(static_cast<int>(std::strtol(fd, nullptr, 10)));
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
