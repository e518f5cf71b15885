// The runtime directory: who may have it, and what is left of it.
#include "launch/runtime_dir.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "ipc/fd_socket.h"
#include "tests/ipc/temp_dir.h"

namespace polykv {
namespace {

namespace fs = std::filesystem;

mode_t mode_of(const std::string& path) {
  struct stat info{};
  EXPECT_EQ(::lstat(path.c_str(), &info), 0) << path;
  return info.st_mode & 07777;
}

TEST(RuntimeDir, new_directory_is_for_its_owner_only_and_is_gone_at_the_end) {
  const TempDir temp;
  const std::string path = temp / "rt";
  {
    auto directory = RuntimeDir::take(path);
    ASSERT_TRUE(directory) << directory.error().message;
    EXPECT_EQ(mode_of(path), 0700u);
    EXPECT_EQ(mode_of(path + "/lock"), 0600u);
    EXPECT_EQ(directory->path(), path);
  }
  EXPECT_FALSE(fs::exists(path));
}

TEST(RuntimeDir, directory_that_was_there_is_emptied_of_sockets_and_stays) {
  const TempDir temp;
  const std::string path = temp / "rt";
  ASSERT_EQ(::mkdir(path.c_str(), 0700), 0);
  {
    auto directory = RuntimeDir::take(path);
    ASSERT_TRUE(directory) << directory.error().message;
    auto listener = FdListener::bind(directory->fd_path());
    ASSERT_TRUE(listener) << listener.error().message;
  }
  EXPECT_TRUE(fs::is_directory(path));
  EXPECT_TRUE(fs::is_empty(path));
}

TEST(RuntimeDir, mode_that_lets_others_in_is_refused_and_not_repaired) {
  const TempDir temp;
  const std::string path = temp / "rt";
  ASSERT_EQ(::mkdir(path.c_str(), 0700), 0);
  ASSERT_EQ(::chmod(path.c_str(), 0750), 0);
  const auto directory = RuntimeDir::take(path);
  ASSERT_FALSE(directory);
  EXPECT_EQ(directory.error().code, ErrorCode::io);
  EXPECT_EQ(directory.error().value, path);
  EXPECT_EQ(directory.error().limit, "0700");
  EXPECT_NE(directory.error().message.find("chmod 700"), std::string::npos);
  EXPECT_EQ(mode_of(path), 0750u);
  EXPECT_TRUE(fs::is_empty(path));
}

TEST(RuntimeDir, second_supervisor_is_told_who_has_the_directory) {
  const TempDir temp;
  const std::string path = temp / "rt";
  auto first = RuntimeDir::take(path);
  ASSERT_TRUE(first) << first.error().message;
  const auto second = RuntimeDir::take(path);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::runtime_busy);
  EXPECT_EQ(second.error().value, cat(::getpid()));
  EXPECT_NE(second.error().message.find(cat("pid ", ::getpid())), std::string::npos);
  EXPECT_NE(second.error().message.find(path), std::string::npos);
  EXPECT_TRUE(fs::exists(path + "/lock")) << "the refusal may not take the holder's lock away";
}

TEST(RuntimeDir, directory_moved_to_another_owner_stays_locked_until_that_one_ends) {
  const TempDir temp;
  auto first = RuntimeDir::take(temp / "rt");
  ASSERT_TRUE(first) << first.error().message;
  {
    const RuntimeDir owner = std::move(*first);
    EXPECT_FALSE(RuntimeDir::take(temp / "rt"));
  }
  EXPECT_TRUE(RuntimeDir::take(temp / "rt"));
}

TEST(RuntimeDir, path_too_long_for_a_socket_is_refused_before_anything_is_made) {
  const TempDir temp;
  const std::string path = temp / std::string(100, 'x');
  const auto directory = RuntimeDir::take(path);
  ASSERT_FALSE(directory);
  EXPECT_EQ(directory.error().code, ErrorCode::path_too_long);
  EXPECT_EQ(directory.error().value, cat(path.size() + 4));
  EXPECT_FALSE(fs::exists(path));
}

TEST(RuntimeDir, what_a_dead_supervisor_left_is_taken_over) {
  const TempDir temp;
  const std::string path = temp / "rt";
  ASSERT_EQ(::mkdir(path.c_str(), 0700), 0);
  {
    ASSERT_TRUE(FdListener::bind(path + "/fd"));
  }  // its socket file stays, its descriptor does not
  ASSERT_TRUE(fs::exists(path + "/fd"));
  std::ofstream(path + "/lock") << "999999\n";
  auto directory = RuntimeDir::take(path);
  ASSERT_TRUE(directory) << directory.error().message;
  std::string holder;
  std::ifstream(path + "/lock") >> holder;
  EXPECT_EQ(holder, cat(::getpid()));
  auto listener = FdListener::bind(directory->fd_path());
  EXPECT_TRUE(listener) << listener.error().message;
}

TEST(RuntimeDir, symbolic_links_are_refused_for_directory_and_lock) {
  const TempDir temp;
  fs::create_directory(temp / "real");
  ASSERT_EQ(::chmod((temp / "real").c_str(), 0700), 0);
  fs::create_symlink(temp / "real", temp / "link");
  const auto linked = RuntimeDir::take(temp / "link");
  ASSERT_FALSE(linked);
  EXPECT_EQ(linked.error().code, ErrorCode::io);
  EXPECT_EQ(linked.error().value, temp / "link");

  std::ofstream(temp / "victim") << "keep";
  fs::create_symlink(temp / "victim", temp / "real/lock");
  const auto lock = RuntimeDir::take(temp / "real");
  ASSERT_FALSE(lock);
  EXPECT_EQ(lock.error().code, ErrorCode::io);
  EXPECT_NE(lock.error().message.find(temp / "real/lock"), std::string::npos);
  EXPECT_EQ(fs::file_size(temp / "victim"), 4u);
}

TEST(RuntimeDir, file_in_its_place_is_refused) {
  const TempDir temp;
  std::ofstream(temp / "rt") << "not a directory";
  const auto directory = RuntimeDir::take(temp / "rt");
  ASSERT_FALSE(directory);
  EXPECT_EQ(directory.error().value, temp / "rt");
  EXPECT_TRUE(fs::is_regular_file(temp / "rt"));
}

TEST(RuntimeDir, private_directories_differ_and_are_removed) {
  std::string first_path, second_path;
  {
    auto first = RuntimeDir::make_private();
    auto second = RuntimeDir::make_private();
    ASSERT_TRUE(first && second);
    first_path = first->path();
    second_path = second->path();
    EXPECT_EQ(mode_of(first_path), 0700u);
    EXPECT_NE(first_path, second_path);
  }
  EXPECT_FALSE(fs::exists(first_path));
  EXPECT_FALSE(fs::exists(second_path));
}

}  // namespace
}  // namespace polykv
