// Contexts and questions as people hand them in.
#include "launch/inputs.h"

#include <gtest/gtest.h>

#include <fstream>

#include "tests/ipc/temp_dir.h"

namespace polykv {
namespace {

namespace fs = std::filesystem;

std::string put(const TempDir& temp, const std::string& name, const std::string& text) {
  const fs::path path = temp / name;
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
  return path.string();
}

void expect_refused(const Error& error, const std::string& words, const std::string& value) {
  EXPECT_EQ(error.code, ErrorCode::bad_text);
  EXPECT_NE(error.message.find(words), std::string::npos) << error.message;
  EXPECT_EQ(error.value, value);
}

TEST(Context, one_file_is_its_text_byte_for_byte) {
  const TempDir temp;
  const std::string text = "Zeile eins\r\n\n  größer\n";
  const auto context = read_context({put(temp, "a.txt", text)});
  ASSERT_TRUE(context) << context.error().message;
  EXPECT_EQ(*context, text);
}

TEST(Context, several_files_stand_under_their_names_in_the_order_given) {
  const TempDir temp;
  const std::string b = put(temp, "b.txt", "B\n"), a = put(temp, "a.txt", "A");
  const auto context = read_context({b, a});
  ASSERT_TRUE(context) << context.error().message;
  EXPECT_EQ(*context, cat("=== ", b, " ===\nB\n\n=== ", a, " ===\nA"));
}

TEST(Context, directory_is_read_in_order_of_name_without_hidden_files_and_directories) {
  const TempDir temp;
  const std::string b = put(temp, "d/b.txt", "B"), a = put(temp, "d/sub/a.txt", "A");
  put(temp, "d/.hidden", "no");
  put(temp, "d/.git/objects/1", "\xff\xfe");
  const auto context = read_context({temp / "d"});
  ASSERT_TRUE(context) << context.error().message;
  EXPECT_EQ(*context, cat("=== ", b, " ===\nB\n=== ", a, " ===\nA"));
}

TEST(Context, directory_with_one_file_is_that_files_text) {
  const TempDir temp;
  put(temp, "d/only.txt", "text");
  const auto context = read_context({temp / "d"});
  ASSERT_TRUE(context) << context.error().message;
  EXPECT_EQ(*context, "text");
}

TEST(Context, text_that_is_not_utf8_is_refused_with_file_and_byte) {
  const TempDir temp;
  const std::string bad = put(temp, "latin1.txt",
                              "gr\xf6\xdf"
                              "er");
  const auto context = read_context({put(temp, "good.txt", "good"), bad});
  ASSERT_FALSE(context);
  expect_refused(context.error(), bad, "2");
  EXPECT_NE(context.error().message.find("byte 2"), std::string::npos);
}

TEST(Context, empty_file_empty_directory_missing_path_and_no_path_are_refused_by_name) {
  const TempDir temp;
  const std::string empty = put(temp, "empty.txt", "");
  const auto of_empty = read_context({empty});
  ASSERT_FALSE(of_empty);
  expect_refused(of_empty.error(), empty + " is empty", empty);

  fs::create_directory(temp / "d");
  const auto of_directory = read_context({temp / "d"});
  ASSERT_FALSE(of_directory);
  expect_refused(of_directory.error(), "has no files", temp / "d");

  const auto of_missing = read_context({temp / "missing"});
  ASSERT_FALSE(of_missing);
  expect_refused(of_missing.error(), temp / "missing", temp / "missing");

  const auto of_nothing = read_context({});
  ASSERT_FALSE(of_nothing);
  expect_refused(of_nothing.error(), "--context", "");
}

TEST(Questions, lines_are_questions_without_their_ends_and_without_blank_ones) {
  const TempDir temp;
  const auto questions =
      read_questions(put(temp, "q.txt", "What is 1?\r\n\r\n \t\nWhat is 2?\n\nWhat is 3?"));
  ASSERT_TRUE(questions) << questions.error().message;
  EXPECT_EQ(*questions, (std::vector<std::string>{"What is 1?", "What is 2?", "What is 3?"}));
}

TEST(Questions, file_with_none_is_refused) {
  const TempDir temp;
  const std::string path = put(temp, "q.txt", "\r\n  \n");
  const auto questions = read_questions(path);
  ASSERT_FALSE(questions);
  expect_refused(questions.error(), "has no questions", path);
}

TEST(WriteFile, what_was_written_is_there_and_a_missing_directory_is_an_error) {
  const TempDir temp;
  ASSERT_TRUE(write_file(temp / "out.json", "{}\n"));
  const auto back = read_context({temp / "out.json"});
  ASSERT_TRUE(back);
  EXPECT_EQ(*back, "{}\n");
  const auto failed = write_file(temp / "no/out.json", "{}");
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::io);
  EXPECT_NE(failed.error().message.find(temp / "no/out.json"), std::string::npos);
}

}  // namespace
}  // namespace polykv
