// The report: for machines it parses and holds what it promises, for people it names who died.
#include "launch/report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "ipc/message_schema.h"

namespace polykv {
namespace {

using nlohmann::json;

Answer answered(const std::string& agent, int64_t pid, const std::string& text) {
  Message done("done");
  done.set("agent", agent).set("pid", pid).set("pool", "main").set("version", 1);
  done.set("reason", "eos").set("text", text).set("prompt_tokens", 20).set("tokens", 3);
  done.set("attach_ms", 12.5).set("ttft_ms", 80.25).set("tokens_per_s", 9.5);
  done.set("private_bytes", 4'000'000).set("peak_private_bytes", 5'600'000);
  done.set("suffix_bytes", 100).set("token_ids", std::vector<int64_t>{5, 6, 7});
  return {"What?", done, {}, agent, pid, {}};
}

Answer died(const std::string& agent, int64_t pid) {
  const Error error{ErrorCode::agent_lost,
                    cat("agent ", agent, " (pid ", pid, ") ended: killed by signal 9 (Killed)"),
                    "killed by signal 9 (Killed)",
                    {}};
  return {"And?", std::nullopt, error, agent, pid, {}};
}

Message a_model(int writer_restarts) {
  Message model("model_status");
  model.set("name", "tiny").set("fingerprint", "abcd").set("image_bytes", 80'000'000);
  return model.set("writer_restarts", writer_restarts);
}

RunResult a_run() {
  RunResult result;
  result.codec = "k4v4";
  result.n_agents = 2;
  result.answer_seconds = 1.5;
  result.pool.set("pool", "main").set("version", 1).set("tokens", 1000).set("bytes", 2'000'000);
  result.pool.set("bits_per_element", 4.25).set("elements", 4'000'000).set("segments", 1);
  result.pool.set("prefill_tokens", 1000).set("prefill_seconds", 4.0);
  result.pool.set("precision", "best: products halves, attention halves");
  result.status = Message("snapshot").set("models", std::vector<Message>{a_model(0)});
  result.status.set("fallbacks", std::vector<std::string>{});
  result.status.set("agents", std::vector<Message>{Message("agent_status").set("threads", 2)});
  result.answers = {answered("a01", 4001, "Ein \"Zitat\"\nund größer"), died("a02", 4002)};
  return result;
}

TEST(ReportJson, holds_what_the_run_cost) {
  const json report = json::parse(report_json(a_run()));
  EXPECT_EQ(report["type"], "report");
  EXPECT_EQ(report["pool"]["bytes"], 2'000'000);
  EXPECT_EQ(report["pool"]["bits_per_element"], 4.25);
  EXPECT_EQ(report["pool"]["tokens"], 1000);
  EXPECT_EQ(report["pool"]["codec"], "k4v4");
  EXPECT_EQ(report["pool"]["shared_f16_bytes"], 8'000'000);
  EXPECT_EQ(report["pool"]["private_f16_bytes"], 16'000'000);
  EXPECT_EQ(report["prefill_tokens_per_s"], 250);
  EXPECT_EQ(report["precision"], "best: products halves, attention halves");
  EXPECT_EQ(report["tokens_generated"], 3) << "of those who answered";
  EXPECT_EQ(report["image_bytes"], 80'000'000);
  EXPECT_EQ(report["model"], "tiny");
  EXPECT_EQ(report["processes"], 2);
  EXPECT_EQ(report["lanes"], 1);
  EXPECT_EQ(report["threads"], 2);
}

TEST(ReportJson, holds_each_agents_figures_and_its_text_unchanged) {
  const json agents = json::parse(report_json(a_run()))["agents"];
  ASSERT_EQ(agents.size(), 2u);
  const json& good = agents[0];
  EXPECT_EQ(good["agent"], "a01");
  EXPECT_EQ(good["pid"], 4001);
  EXPECT_EQ(good["attach_ms"], 12.5);
  EXPECT_EQ(good["ttft_ms"], 80.25);
  EXPECT_EQ(good["tokens_per_s"], 9.5);
  EXPECT_EQ(good["private_bytes"], 4'000'000);
  EXPECT_EQ(good["peak_private_bytes"], 5'600'000);
  EXPECT_EQ(good["text"], "Ein \"Zitat\"\nund größer");
  EXPECT_EQ(good["token_ids"], (json{5, 6, 7}));
  EXPECT_FALSE(good.contains("error"));
}

TEST(ReportJson, lost_agent_has_an_error_in_place_of_figures) {
  const json lost = json::parse(report_json(a_run()))["agents"][1];
  EXPECT_EQ(lost["agent"], "a02");
  EXPECT_EQ(lost["pid"], 4002);
  EXPECT_EQ(lost["code"], "agent_lost");
  EXPECT_NE(lost["error"].get<std::string>().find("pid 4002"), std::string::npos);
  EXPECT_FALSE(lost.contains("text"));
  EXPECT_FALSE(lost.contains("ttft_ms"));
}

// Fields that the schema wants and the object lacks, or the other way round.
std::string disagreement(const json& object, const MessageSchema& schema) {
  std::string names;
  for (const Field& field : schema.fields) {
    if (field.required && !object.contains(field.name)) names += cat(" -", field.name);
  }
  for (const auto& [name, value] : object.items()) {
    if (schema.find(name) == nullptr && find_common_field(name) == nullptr) names += " +" + name;
  }
  return names;
}

TEST(ReportJson, has_the_fields_of_its_schema_and_no_others) {
  const json report = json::parse(report_json(a_run()));
  EXPECT_EQ(disagreement(report, *find_schema("report")), "");
  EXPECT_EQ(disagreement(report["pool"], *find_schema("pool_report")), "");
  EXPECT_EQ(disagreement(report["agents"][0], *find_schema("agent_report")), "");
  EXPECT_EQ(disagreement(report["agents"][1], *find_schema("agent_report")), "");
}

TEST(ReportJson, run_without_a_prefill_time_has_a_rate_of_zero) {
  RunResult result = a_run();
  result.pool.set("prefill_seconds", 0.0);
  EXPECT_EQ(json::parse(report_json(result))["prefill_tokens_per_s"], 0);
}

std::string printed(const RunResult& result) {
  std::ostringstream out;
  print_report(result, out);
  return out.str();
}

TEST(PrintedReport, names_a_dead_agent_with_pid_and_end_beside_the_others_answers) {
  const std::string report = printed(a_run());
  EXPECT_NE(report.find("DIED: agent a02 (pid 4002) ended: killed by signal 9"), std::string::npos);
  EXPECT_NE(report.find("   und größer"), std::string::npos);
  EXPECT_NE(report.find("2.0 MB as mapped, for 1000 tokens in k4v4"), std::string::npos);
  EXPECT_NE(report.find("16.0 MB in 2 private f16 caches (8.0 times"), std::string::npos);
  EXPECT_NE(report.find("250 tokens/s, best: products halves, attention halves\n"),
            std::string::npos);
  EXPECT_EQ(report.find("Writer "), std::string::npos);
}

TEST(PrintedReport, says_how_many_lanes_the_processes_had) {
  RunResult result = a_run();
  EXPECT_NE(printed(result).find("from 2 processes, prompts"), std::string::npos);
  result.n_agents = 1;
  result.n_lanes = 15;
  const std::string report = printed(result);
  EXPECT_NE(report.find("from 1 process x 15 lanes, prompts"), std::string::npos) << report;
  EXPECT_NE(report.find("120.0 MB in 15 private f16 caches"), std::string::npos) << report;
}

TEST(PrintedReport, tells_of_restarts_and_fallbacks_where_there_were_any) {
  RunResult result = a_run();
  result.status.set("models", std::vector<Message>{a_model(2)});
  result.status.set("fallbacks", std::vector<std::string>{"agent a01: no fast kernel"});
  const std::string report = printed(result);
  EXPECT_NE(report.find("started again 2 time(s)"), std::string::npos);
  EXPECT_NE(report.find("Fallback  agent a01: no fast kernel"), std::string::npos);
}

}  // namespace
}  // namespace polykv
