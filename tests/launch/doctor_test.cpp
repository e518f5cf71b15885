// The doctor's judgements, and what it makes of a directory, a file and a program.
#include "launch/doctor.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <fstream>
#include <sstream>

#include "launch/runtime_dir.h"
#include "tests/ipc/temp_dir.h"
#include "tests/launch/expect_error.h"

namespace polykv {
namespace {

using testing::expect_error;

constexpr uint64_t kGB = 1'000'000'000;

void expect_finding(const Finding& finding, Verdict verdict, const std::string& words) {
  EXPECT_EQ(finding.verdict, verdict) << finding.name << ": " << finding.found;
  EXPECT_NE(finding.found.find(words), std::string::npos)
      << "'" << words << "' is not in: " << finding.found;
  EXPECT_TRUE(verdict == Verdict::ok || !finding.advice.empty()) << finding.name;
}

class Doctor : public ::testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& content, mode_t mode = 0600) {
    std::ofstream(temp_ / name) << content;
    ::chmod((temp_ / name).c_str(), mode);
    return temp_ / name;
  }
  TempDir temp_;
};

TEST_F(Doctor, few_descriptors_are_a_problem_and_not_many_a_warning) {
  expect_finding(judge_descriptors(64), Verdict::problem, "64");
  expect_finding(judge_descriptors(1024), Verdict::warning, "1024");
  expect_finding(judge_descriptors(20'000), Verdict::ok, "20000");
  expect_finding(judge_descriptors(RLIM_INFINITY), Verdict::ok, "no limit");
}

TEST_F(Doctor, the_tighter_of_free_memory_and_cgroup_decides) {
  MemoryRoom room;
  room.mem_available = 8 * kGB;
  expect_finding(judge_memory(room), Verdict::ok, "no cgroup limit");
  room.cgroup = kGB;
  expect_finding(judge_memory(room), Verdict::warning, "1000.0 MB left in the cgroup");
  room.mem_available = kGB / 10;
  expect_finding(judge_memory(room), Verdict::problem, "100.0 MB available");
}

TEST_F(Doctor, kernels_are_told_apart_by_number_not_by_text) {
  expect_finding(judge_kernel("5.10.0-28-amd64"), Verdict::ok, "5.10");
  expect_finding(judge_kernel("6.1.0"), Verdict::ok, "6.1");
  expect_finding(judge_kernel("5.4.0-42-generic"), Verdict::problem, "5.4");
  expect_finding(judge_kernel("4.19.0"), Verdict::problem, "4.19");
}

TEST_F(Doctor, slow_clocks_are_named) {
  expect_finding(judge_clock("tsc"), Verdict::ok, "tsc");
  expect_finding(judge_clock("hpet"), Verdict::warning, "hpet");
}

TEST_F(Doctor, sealing_is_tried_for_real) {
  expect_finding(look_at_sealing(), Verdict::ok, "sealed");
}

TEST_F(Doctor, a_runtime_path_past_the_kernels_limit_is_a_problem_of_its_own_code) {
  const Finding finding = look_at_runtime(temp_ / std::string(120, 'x'));
  expect_finding(finding, Verdict::problem, "107");
  EXPECT_EQ(finding.code, ErrorCode::path_too_long);
}

TEST_F(Doctor, a_runtime_directory_is_judged_by_what_lies_there) {
  const std::string path = temp_ / "rt";
  expect_finding(look_at_runtime(path), Verdict::ok, "'up' will make it");
  expect_finding(look_at_runtime(temp_ / "no/rt"), Verdict::problem, "cannot be made");
  ::mkdir(path.c_str(), 0700);
  expect_finding(look_at_runtime(path), Verdict::ok, "nothing runs");
  file("rt/ctl", "");
  expect_finding(look_at_runtime(path), Verdict::warning, "has died");
  ::chmod(path.c_str(), 0755);
  expect_finding(look_at_runtime(path), Verdict::problem, "0700");
}

TEST_F(Doctor, a_supervisor_that_holds_the_directory_but_is_not_there_is_seen) {
  const auto held = RuntimeDir::take(temp_ / "rt");
  ASSERT_TRUE(held);
  expect_finding(look_at_runtime(temp_ / "rt"), Verdict::warning, "does not answer");
}

TEST_F(Doctor, a_model_must_be_readable_and_gguf_or_a_folder) {
  expect_finding(look_at_model(temp_ / "none"), Verdict::problem, "cannot be read");
  expect_finding(look_at_model(file("text", "GGML, not so")), Verdict::problem, "no GGUF");
  expect_finding(look_at_model(file("model", "GGUF and so on")), Verdict::ok, "model");
  const std::string folder = temp_ / "";
  expect_finding(look_at_model(folder), Verdict::problem, "no config.json");
  (void)file("config.json", "{}");
  expect_finding(look_at_model(folder), Verdict::problem, "no tokenizer.json");
  (void)file("tokenizer.json", "{}");
  expect_finding(look_at_model(folder), Verdict::ok, "config.json");
  expect_finding(look_at_model(temp_ / "x.safetensors"), Verdict::ok, "config.json");
}

TEST_F(Doctor, a_writer_that_is_missing_or_does_not_start_is_quoted) {
  expect_finding(look_at_writer(temp_ / "none"), Verdict::problem, "No such file");
  const std::string broken = file("broken", "#!/bin/sh\necho libtorch is lost; exit 127\n", 0700);
  expect_finding(look_at_writer(broken), Verdict::problem, "libtorch is lost");
  const std::string good = file("good", "#!/bin/sh\necho 9.9.9\n", 0700);
  expect_finding(look_at_writer(good), Verdict::ok, "9.9.9");
}

TEST_F(Doctor, an_agent_program_tells_of_its_kernels) {
  const std::string agent = file("agent", R"(#!/bin/sh
echo '{"v":1,"type":"doctor","usable":true,"checks":[{"name":"matrix kernels","verdict":"warning",
"found":"ref is used","advice":"slow"}]}'
)",
                                 0700);
  const Findings findings = look_at_agent(agent);
  ASSERT_EQ(findings.size(), 2u) << findings[0].found;
  expect_finding(findings[1], Verdict::warning, "ref is used");
  const std::string other = file("other", "#!/bin/sh\necho hello\n", 0700);
  expect_finding(look_at_agent(other).front(), Verdict::problem, "JSON");
}

TEST_F(Doctor, the_first_problem_is_the_outcome_and_warnings_are_none) {
  const Findings findings{{"a", Verdict::ok, "fine"},
                          {"b", Verdict::warning, "slow", "wait"},
                          {"c", Verdict::problem, "gone", "look", ErrorCode::bad_model_file},
                          {"d", Verdict::problem, "full", "empty it", ErrorCode::memory_limit}};
  expect_error(verdict_of(findings), ErrorCode::bad_model_file, {"c", "gone"});
  EXPECT_TRUE(verdict_of({findings[0], findings[1]}));
  std::ostringstream out;
  print_findings(findings, out);
  EXPECT_NE(out.str().find("warning  b"), std::string::npos) << out.str();
  EXPECT_NE(out.str().find("→ look"), std::string::npos) << out.str();
}

TEST_F(Doctor, its_json_is_a_valid_message) {
  const Findings findings{{"a", Verdict::ok, "fine"},
                          {"c", Verdict::problem, "gone", "look", ErrorCode::bad_model_file}};
  const auto read = Message::parse(findings_message(findings).dump());
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_FALSE(read->flag("usable"));
  EXPECT_EQ(read->objects("checks").at(1).text("code"), "bad_model_file");
}

}  // namespace
}  // namespace polykv
