// Children: what they start with, how they end, and what the kernel says of their memory.
#include "ipc/process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <sstream>

#include "tests/ipc/temp_dir.h"

namespace polykv {
namespace {

constexpr int kWaitMs = 20'000;  // far more than is needed: a wait that ends here is a failure

Result<Child> shell(const std::string& script, const std::string& log = "") {
  return Child::start("/bin/sh", {"-c", script}, log);
}

std::string file_text(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// What a shell script prints.
std::string output(const std::string& script) {
  const TempDir directory;
  auto child = shell(script, directory / "log");
  EXPECT_TRUE(child) << child.error().message;
  EXPECT_TRUE(child->wait(kWaitMs));
  return file_text(directory / "log");
}

bool exists(pid_t pid) { return ::kill(pid, 0) == 0; }

TEST(Child, exit_code_is_told) {
  auto child = shell("exit 3");
  ASSERT_TRUE(child) << child.error().message;
  const auto state = child->wait(kWaitMs);
  ASSERT_TRUE(state);
  EXPECT_FALSE(state->signalled);
  EXPECT_EQ(state->code, 3);
  EXPECT_EQ(describe(*state), "exit code 3");
  EXPECT_EQ(child->try_wait()->code, 3);  // and again
}

TEST(Child, killing_signal_is_told) {
  auto child = shell("kill -KILL $$");
  ASSERT_TRUE(child);
  const auto state = child->wait(kWaitMs);
  ASSERT_TRUE(state);
  EXPECT_TRUE(state->signalled);
  EXPECT_EQ(describe(*state), "killed by signal 9 (Killed)");
}

TEST(Child, running_child_is_waited_for_and_its_pidfd_tells_the_end) {
  auto sleeper = Child::start("/bin/sleep", {"1000"});
  ASSERT_TRUE(sleeper);
  EXPECT_FALSE(sleeper->try_wait());
  EXPECT_FALSE(sleeper->wait(1));
  pollfd poll{sleeper->pidfd(), POLLIN, 0};
  EXPECT_EQ(::poll(&poll, 1, 0), 0);
  sleeper->signal(SIGTERM);
  EXPECT_EQ(::poll(&poll, 1, kWaitMs), 1);
  EXPECT_EQ(sleeper->try_wait()->code, SIGTERM);
  sleeper->signal(SIGTERM);  // after the end: nothing happens
}

TEST(Child, destructor_kills_and_reaps) {
  pid_t pid = -1;
  {
    auto child = Child::start("/bin/sleep", {"1000"});
    ASSERT_TRUE(child);
    pid = child->pid();
    EXPECT_TRUE(exists(pid));
  }
  EXPECT_FALSE(exists(pid));
}

TEST(Child, moves_carry_the_process) {
  auto child = Child::start("/bin/sleep", {"1000"});
  ASSERT_TRUE(child);
  const pid_t pid = child->pid();
  Child second = std::move(*child);
  EXPECT_EQ(second.pid(), pid);
  EXPECT_TRUE(exists(pid));
  second = Child();
  EXPECT_FALSE(exists(pid));
  EXPECT_FALSE(Child().try_wait());
}

TEST(Child, output_is_appended_to_the_log) {
  const TempDir directory;
  const std::string log = directory / "log";
  for (const char* script : {"echo out", "echo err >&2"}) {
    auto child = shell(script, log);
    ASSERT_TRUE(child);
    ASSERT_TRUE(child->wait(kWaitMs));
  }
  EXPECT_EQ(file_text(log), "out\nerr\n");
}

TEST(Child, arguments_pass_through_untouched) {
  const TempDir directory;
  auto child = Child::start("/bin/echo", {"-n", "a b", "$HOME", "ü;"}, directory / "log");
  ASSERT_TRUE(child);
  ASSERT_TRUE(child->wait(kWaitMs));
  EXPECT_EQ(file_text(directory / "log"), "a b $HOME ü;");
}

TEST(Child, inherits_no_descriptor_even_if_it_was_left_inheritable) {
  const UniqueFd leaky(::open("/dev/null", O_RDONLY));  // deliberately without O_CLOEXEC
  ASSERT_EQ(::fcntl(leaky.get(), F_GETFD), 0);
  EXPECT_EQ(output(cat("test -e /proc/self/fd/", leaky.get(), " && echo leaked || echo clean")),
            "clean\n");
  EXPECT_EQ(output("readlink /proc/self/fd/0"), "/dev/null\n");
}

TEST(Child, starts_with_default_signals_whatever_the_parent_ignores_or_blocks) {
  const auto old = std::signal(SIGTERM, SIG_IGN);
  sigset_t blocked, before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  sigaddset(&blocked, SIGINT);
  ::sigprocmask(SIG_BLOCK, &blocked, &before);
  auto child = Child::start("/bin/sleep", {"1000"});
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  std::signal(SIGTERM, old);
  ASSERT_TRUE(child);
  child->signal(SIGTERM);
  const auto state = child->wait(kWaitMs);
  ASSERT_TRUE(state);
  EXPECT_EQ(describe(*state), "killed by signal 15 (Terminated)");
}

TEST(Child, program_that_cannot_start_is_an_error_with_its_path) {
  for (const std::string& path : {std::string("/no/such/program"), std::string("/etc/passwd"),
                                  std::string("sh"), std::string()}) {
    const auto child = Child::start(path, {});
    ASSERT_FALSE(child) << path;
    EXPECT_EQ(child.error().code, ErrorCode::io);
    EXPECT_NE(child.error().message.find(path), std::string::npos);
  }
  const auto no_log = shell("exit 0", "/no/such/directory/log");
  ASSERT_FALSE(no_log);
  EXPECT_NE(no_log.error().message.find("/no/such/directory/log"), std::string::npos);
}

// Pages of the program's own file are private only while nobody else runs it, so that `before` may
// shrink meanwhile: what was written stays private whatever others do.
TEST(MemoryUse, counts_what_this_process_writes) {
  constexpr size_t kBytes = 64 << 20;
  const auto before = memory_use();
  ASSERT_TRUE(before) << before.error().message;
  ASSERT_LT(before->private_bytes, kBytes);
  std::vector<char> block(kBytes, 'x');
  const auto after = memory_use();
  ASSERT_TRUE(after);
  EXPECT_EQ(block[kBytes / 2], 'x');
  EXPECT_GE(after->private_bytes, kBytes);
  EXPECT_GE(after->pss, after->private_bytes);
}

TEST(MemoryUse, reads_another_process_and_refuses_one_that_is_not_there) {
  auto child = Child::start("/bin/sleep", {"1000"});
  ASSERT_TRUE(child);
  EXPECT_TRUE(memory_use(child->pid()));
  const auto missing = memory_use(1 << 30);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::io);
  EXPECT_EQ(missing.error().value, cat(1 << 30));
}

TEST(ProgramDirectory, is_where_the_running_program_lies) {
  EXPECT_EQ(std::filesystem::canonical(program_directory()),
            std::filesystem::canonical(POLYKV_BINARY_DIR));
}

}  // namespace
}  // namespace polykv
