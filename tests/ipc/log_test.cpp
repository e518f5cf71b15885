// Log lines: one line each whatever they hold, and what JSON says can be read back unchanged.
#include "ipc/log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <regex>

namespace polykv {
namespace {

using nlohmann::json;

const std::string kNasty = "a \"quoted\"\nline\\ with\ttab, bell \a and größe";

json read_back(const std::string& members) { return json::parse("{" + members); }

std::string logged(LogFormat format, LogLevel threshold, const LogFields& fields) {
  ::testing::internal::CaptureStderr();
  start_log("agent a03", threshold, format);
  log_line(LogLevel::debug, "too fine", fields);
  log_line(LogLevel::warning, kNasty, fields);
  return ::testing::internal::GetCapturedStderr();
}

TEST(LogText, fields_follow_the_sentence_and_empty_ones_are_left_out) {
  EXPECT_EQ(log_text("it ended", {{"agent", "a03"}, {"request", ""}, {"version", "7"}}),
            "it ended agent=a03 version=7");
}

TEST(LogText, values_that_could_be_misread_are_quoted) {
  EXPECT_EQ(log_text("x", {{"pool", "my pool"}}), "x pool=\"my pool\"");
  EXPECT_EQ(log_text("x", {{"pool", "a=b"}}), "x pool=\"a=b\"");
  EXPECT_EQ(log_text("x", {{"pool", "a\"b\n"}}), "x pool=\"a\\\"b\\n\"");
}

TEST(LogText, a_sentence_with_line_ends_stays_one_line) {
  EXPECT_EQ(log_text("one \"two\"\nthree\x1b[31m", {}), "one \"two\"\\nthree\\u001b[31m");
}

TEST(LogJson, reads_back_as_it_was_said) {
  const json line = read_back(log_json("polykv", kNasty, {{"request", kNasty}, {"agent", ""}}));
  EXPECT_EQ(line, (json{{"who", "polykv"}, {"message", kNasty}, {"request", kNasty}}));
}

TEST(LogJson, bytes_that_are_not_utf8_are_replaced) {
  EXPECT_EQ(read_back(log_json("polykv", "caf\xe9!", {}))["message"], "caf\ufffd!");
}

TEST(Log, a_json_line_has_time_level_and_who) {
  const std::string line = logged(LogFormat::json, LogLevel::info, {{"agent", "a03"}});
  EXPECT_EQ(std::ranges::count(line, '\n'), 1) << line;
  const json parsed = json::parse(line);
  EXPECT_EQ(parsed["level"], "warning");
  EXPECT_EQ(parsed["who"], "agent a03");
  EXPECT_EQ(parsed["message"], kNasty);
  EXPECT_EQ(parsed["agent"], "a03");
  const std::string time = parsed["time"];
  EXPECT_TRUE(std::regex_match(time, std::regex(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)")))
      << time;
}

TEST(Log, a_text_line_is_one_line_and_finer_levels_are_silent) {
  const std::string line = logged(LogFormat::text, LogLevel::info, {{"agent", "a03"}});
  EXPECT_EQ(std::ranges::count(line, '\n'), 1) << line;
  EXPECT_NE(line.find(" W [agent a03] a \"quoted\"\\nline"), std::string::npos) << line;
  EXPECT_TRUE(line.ends_with(" agent=a03\n")) << line;
}

TEST(Log, the_threshold_is_obeyed) {
  EXPECT_EQ(logged(LogFormat::text, LogLevel::error, {}), "");
  const std::string fine = logged(LogFormat::text, LogLevel::debug, {});
  EXPECT_EQ(std::ranges::count(fine, '\n'), 2) << fine;
}

TEST(Log, unknown_levels_and_formats_are_named_with_the_choices) {
  EXPECT_EQ(parse_log_level("loud").error().code, ErrorCode::usage);
  EXPECT_NE(parse_log_level("loud").error().message.find("'loud'"), std::string::npos);
  EXPECT_EQ(*parse_log_level("warning"), LogLevel::warning);
  EXPECT_NE(parse_log_format("xml").error().message.find("'xml'"), std::string::npos);
  EXPECT_EQ(*parse_log_format("json"), LogFormat::json);
}

}  // namespace
}  // namespace polykv
