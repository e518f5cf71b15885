// Memory limits, read from a made-up /proc and /sys.
#include "ipc/limits.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "tests/ipc/temp_dir.h"

namespace polykv {
namespace {

// A directory that stands for the root of a file system.
class FakeRoot {
 public:
  void write(const std::string& path, const std::string& text) {
    const std::filesystem::path file = root() + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }

  // A v2 group: limit, usage, and page cache among the usage.
  void group_v2(const std::string& path, const std::string& limit, uint64_t usage,
                uint64_t cache = 0, const std::string& mount = "/sys/fs/cgroup") {
    write(mount + path + "/memory.max", limit + "\n");
    write(mount + path + "/memory.current", cat(usage, "\n"));
    write(mount + path + "/memory.stat",
          cat("anon 1\nfile ", 2 * cache, "\ninactive_file ", cache, "\nactive_file 5\n"));
  }

  void group_v1(const std::string& path, uint64_t limit, uint64_t usage, uint64_t cache = 0) {
    const std::string directory = "/sys/fs/cgroup/memory" + path;
    write(directory + "/memory.limit_in_bytes", cat(limit, "\n"));
    write(directory + "/memory.usage_in_bytes", cat(usage, "\n"));
    write(directory + "/memory.stat",
          cat("inactive_file 3\ntotal_cache 9\ntotal_inactive_file ", cache, "\n"));
  }

  MemoryRoom room() const { return memory_room(std::nullopt, root()); }
  std::string root() const { return directory_.path(); }

 private:
  TempDir directory_;
};

TEST(MemoryRoom, knows_no_limit_where_nothing_is_mounted) {
  const FakeRoot root;
  const MemoryRoom room = root.room();
  EXPECT_FALSE(room.budget);
  EXPECT_FALSE(room.cgroup);
  EXPECT_FALSE(room.mem_available);
}

TEST(MemoryRoom, passes_the_budget_on) {
  const FakeRoot root;
  EXPECT_EQ(memory_room(123, root.root()).budget, 123u);
}

TEST(MemoryRoom, reads_available_memory_in_bytes) {
  FakeRoot root;
  root.write("/proc/meminfo",
             "MemTotal:  9999 kB\nMemFree:  1 kB\nMemAvailable:     2048 kB\nBuffers: 7 kB\n");
  EXPECT_EQ(root.room().mem_available, 2048u * 1024);
}

TEST(MemoryRoom, v2_group_leaves_limit_minus_usage_without_reclaimable_cache) {
  FakeRoot root;
  root.write("/proc/self/cgroup", "0::/service\n");
  root.group_v2("/service", "1000", 700, 200);
  EXPECT_EQ(root.room().cgroup, 500u);
}

TEST(MemoryRoom, v2_takes_the_tightest_group_up_the_tree) {
  FakeRoot root;
  root.write("/proc/self/cgroup", "0::/a/b/c\n");
  root.group_v2("/a/b/c", "max", 10);
  root.group_v2("/a/b", "5000", 1000);
  root.group_v2("/a", "6000", 5900);
  EXPECT_EQ(root.room().cgroup, 100u);
}

TEST(MemoryRoom, v2_inside_a_container_is_read_at_the_mount) {
  FakeRoot root;
  root.write("/proc/self/cgroup", "0::/../outside/of/this/namespace\n");
  root.group_v2("", "1000", 400);
  EXPECT_EQ(root.room().cgroup, 600u);
}

TEST(MemoryRoom, v2_unlimited_everywhere_is_no_limit) {
  FakeRoot root;
  root.write("/proc/self/cgroup", "0::/a\n");
  root.group_v2("/a", "max", 10);
  EXPECT_FALSE(root.room().cgroup);
}

TEST(MemoryRoom, v1_group_and_its_ancestors_are_read) {
  FakeRoot root;
  root.write("/proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n");
  root.group_v1("/docker/abc", 10'000, 4'000, 1'000);
  root.group_v1("/docker", 20'000, 18'000);
  root.group_v1("", 0x7FFFFFFFFFFFF000, 1);
  EXPECT_EQ(root.room().cgroup, 2'000u);
}

TEST(MemoryRoom, v1_unlimited_is_no_limit) {
  FakeRoot root;
  root.write("/proc/self/cgroup", "4:memory:/\n");
  root.group_v1("", 0x7FFFFFFFFFFFF000, 12345);
  EXPECT_FALSE(root.room().cgroup);
}

TEST(MemoryRoom, v1_controllers_mounted_together_are_found) {
  FakeRoot root;
  root.write("/proc/self/cgroup", "4:cpu,memory:/g\n");
  root.group_v1("/g", 1000, 900);
  EXPECT_EQ(root.room().cgroup, 100u);
}

TEST(MemoryRoom, v1_memory_beside_a_v2_hierarchy_takes_the_tighter) {
  FakeRoot root;
  root.write("/proc/self/cgroup", "4:memory:/g\n0::/g\n");
  root.group_v1("/g", 1000, 100);
  root.group_v2("/g", "500", 100, 0, "/sys/fs/cgroup/unified");
  EXPECT_EQ(root.room().cgroup, 400u);
}

TEST(MemoryRoom, usage_over_the_limit_leaves_nothing) {
  FakeRoot root;
  root.write("/proc/self/cgroup", "0::/a\n");
  root.group_v2("/a", "1000", 1500);
  EXPECT_EQ(root.room().cgroup, 0u);
}

TEST(MemoryRoom, garbage_in_the_files_is_no_limit) {
  FakeRoot root;
  root.write("/proc/self/cgroup", "nonsense\n\n:\n0::/a\n");
  root.write("/sys/fs/cgroup/a/memory.max", "many\n");
  root.write("/proc/meminfo", "MemAvailable: lots kB\n");
  EXPECT_FALSE(root.room().cgroup);
  EXPECT_FALSE(root.room().mem_available);
}

TEST(MemoryRoom, reads_the_file_size_limit_of_the_process) {
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit limit{12'345, 12'345};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    ::_exit(memory_room().file_size == 12'345u ? 42 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 42);
}

TEST(MemoryRoom, of_this_machine_has_free_memory) {
  const MemoryRoom room = memory_room();
  ASSERT_TRUE(room.mem_available);
  EXPECT_GT(*room.mem_available, 1u << 20);
  EXPECT_TRUE(check_room(1, room));
}

struct LimitCase {
  MemoryRoom room;
  const char* name;
};

TEST(CheckRoom, refuses_one_byte_too_many_and_names_limit_value_and_holders) {
  const LimitCase cases[] = {{{.budget = 100}, "budget"},
                             {{.cgroup = 100}, "cgroup"},
                             {{.mem_available = 100}, "MemAvailable"},
                             {{.file_size = 100}, "RLIMIT_FSIZE"}};
  for (const LimitCase& one : cases) {
    EXPECT_TRUE(check_room(100, one.room)) << one.name;
    const Status refused = check_room(101, one.room, "pool main 99 bytes");
    ASSERT_FALSE(refused) << one.name;
    EXPECT_EQ(refused.error().code, ErrorCode::memory_limit);
    EXPECT_EQ(refused.error().value, "101");
    EXPECT_EQ(refused.error().limit, "100");
    for (const char* part : {one.name, "101", "100", "pool main 99 bytes"}) {
      EXPECT_NE(refused.error().message.find(part), std::string::npos) << refused.error().message;
    }
  }
}

TEST(CheckRoom, without_limits_takes_anything) { EXPECT_TRUE(check_room(~uint64_t{0}, {})); }

}  // namespace
}  // namespace polykv
