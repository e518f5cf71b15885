// The status view: everything on a wide terminal, what matters on a narrow one, nothing wider.
#include "launch/status_view.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "launch/text_table.h"
#include "launch/watch.h"

namespace polykv {
namespace {

Message an_agent(const std::string& name, int pid, int64_t tokens) {
  Message agent("agent_status");
  agent.set("agent", name).set("pid", pid).set("state", "busy").set("model", "main");
  agent.set("pool", "main").set("version", 7).set("kernel", "avx2/avx512").set("attach_ms", 20.5);
  agent.set("private_bytes", 6'200'000).set("tokens", tokens).set("tokens_per_s", 0.0);
  agent.set("lanes", 15).set("running", 3).set("threads", 2);
  return agent.set("restarts", 0).set("last_error", "");
}

Message a_version(int64_t number, int64_t leases, bool pinned) {
  Message version("version_status");
  version.set("version", number).set("tokens", 4000).set("leases", leases);
  return version.set("pinned", pinned);
}

Message a_pool() {
  Message pool("pool_status");
  pool.set("pool", "main").set("model", "main").set("version", 7).set("codec", "k4v4");
  pool.set("tokens", 4042).set("bytes", 24'200'000).set("bits_per_element", 4.152);
  pool.set("segments", 3).set("leases", 5).set("idle_seconds", 2.0);
  pool.set("precision", "fast: products tiles, attention tiles");
  return pool.set("versions", std::vector<Message>{a_version(5, 0, true), a_version(6, 2, false),
                                                   a_version(7, 3, true)});
}

Message a_snapshot(int64_t tokens = 100) {
  Message model("model_status");
  model.set("model", "main").set("name", "Smoll").set("fingerprint", "0123abcd");
  model.set("image_bytes", 98'800'000).set("positions", 8192).set("writer_pid", 4101);
  model.set("writer_state", "ready").set("writer_restarts", 1).set("image_source", "cache");
  Message snapshot("snapshot");
  snapshot.set("pid", 4100).set("held_bytes", 123'000'000).set("budget_bytes", 500'000'000);
  snapshot.set("evicted_pools", 2);
  snapshot.set("fallbacks", std::vector<std::string>{"agent a01: a kernel failed its self-test"});
  snapshot.set("models", std::vector<Message>{model});
  snapshot.set("pools", std::vector<Message>{a_pool()});
  return snapshot.set(
      "agents", std::vector<Message>{an_agent("a01", 4134, tokens), an_agent("größe", 4135, 0)});
}

std::string text_of(const Message& snapshot, const ViewNotes& notes, size_t columns) {
  std::string text;
  for (const std::string& line : status_lines(snapshot, notes, columns)) {
    EXPECT_TRUE(columns == 0 || width_of(line) <= columns) << columns << ": " << line;
    text += line + '\n';
  }
  return text;
}

void expect_words(const std::string& text, const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    EXPECT_NE(text.find(word), std::string::npos) << "'" << word << "' is not in\n" << text;
  }
}

TEST(StatusView, shows_everything_where_there_is_room) {
  ViewNotes notes;
  notes.tokens_per_s["a01"] = 12.34;
  notes.events = {"agent a02 (pid 4136) ended: killed by signal 9 (Killed)"};
  expect_words(text_of(a_snapshot(), notes, 0), {"supervisor pid 4100",
                                                 "123.0 MB of 500.0 MB",
                                                 "pools dropped for memory: 2",
                                                 "fallbacks: 1",
                                                 "a kernel failed its self-test",
                                                 "Smoll",
                                                 "98.8",
                                                 "from cache",
                                                 "ready",
                                                 "4101",
                                                 "0123abcd",
                                                 "k4v4",
                                                 "24.2",
                                                 "4.152",
                                                 "fast: products tiles, attention tiles",
                                                 "7(3 leased, pinned) 6(2 leased) 5(pinned)",
                                                 "a01",
                                                 "4134",
                                                 "busy",
                                                 "3/15",
                                                 "12.3",
                                                 "6.2",
                                                 "avx2/avx512",
                                                 "größe",
                                                 "agent a02 (pid 4136) ended"});
}

TEST(StatusView, keeps_names_states_speed_and_memory_on_a_narrow_terminal) {
  ViewNotes notes;
  notes.tokens_per_s["a01"] = 12.34;
  const std::string text = text_of(a_snapshot(), notes, 40);
  expect_words(text, {"a01", "busy", "12.3", "6.2", "24.2", "ready", "größe"});
  EXPECT_EQ(text.find("avx2/avx512"), std::string::npos) << text;
  EXPECT_EQ(text.find("4.152"), std::string::npos) << text;
}

TEST(StatusView, no_line_is_wider_than_the_terminal_however_narrow) {
  for (size_t columns = 1; columns <= 150; ++columns) (void)text_of(a_snapshot(), {}, columns);
}

TEST(StatusView, an_empty_runtime_says_so) {
  Message snapshot = a_snapshot();
  snapshot.set("pools", std::vector<Message>{}).set("agents", std::vector<Message>{});
  expect_words(text_of(snapshot, {}, 80), {"no pools", "no agents"});
}

TEST(StatusView, what_strangers_name_cannot_steer_the_terminal) {
  Message snapshot = a_snapshot();
  snapshot.set("agents", std::vector<Message>{an_agent("\033[2Jevil\nname", 1, 0)});
  const auto lines = status_lines(snapshot, {.tokens_per_s = {}, .events = {"\033]0;x\a"}}, 0);
  const std::string all = text_of(snapshot, {}, 0);
  EXPECT_EQ(all.find('\033'), std::string::npos) << all;
  EXPECT_NE(all.find("?[2Jevil?name"), std::string::npos) << all;
  EXPECT_EQ(lines.back(), "?]0;x?");
}

TEST(StatusView, the_snapshots_own_rate_goes_before_the_counted_one) {
  Message snapshot = a_snapshot();
  snapshot.set("agents", std::vector<Message>{an_agent("a01", 1, 5).set("tokens_per_s", 9.9)});
  ViewNotes notes;
  notes.tokens_per_s["a01"] = 3.3;
  const std::string text = text_of(snapshot, notes, 0);
  EXPECT_NE(text.find("9.9"), std::string::npos) << text;
  EXPECT_EQ(text.find("3.3"), std::string::npos) << text;
}

TEST(Rates, are_counted_per_process_and_a_restarted_agent_has_none) {
  const auto rates = rates_between(a_snapshot(100), a_snapshot(130), 2.0);
  EXPECT_EQ(rates, (std::map<std::string, double>{{"a01", 15.0}}));
  Message restarted = a_snapshot();
  restarted.set("agents", std::vector<Message>{an_agent("a01", 9999, 130)});
  EXPECT_TRUE(rates_between(a_snapshot(100), restarted, 2.0).empty());
}

TEST(Events, tell_who_came_and_went) {
  Message ended("agent_ended");
  ended.set("pool", "main").set("agent", "a02").set("pid", 7).set("story", "killed by signal 9");
  EXPECT_EQ(event_line(ended), "agent a02 (pid 7) ended: killed by signal 9");
  EXPECT_EQ(event_line(Message("token").set("agent", "a02").set("text", "x")), "");
}

TEST(Screen, is_drawn_over_line_by_line_and_what_does_not_fit_is_counted) {
  EXPECT_EQ(screen_of({"one", "two"}, 5), "\033[Hone\033[K\r\ntwo\033[K\033[J");
  const std::string small = screen_of({"one", "two", "three", "four"}, 3);
  EXPECT_NE(small.find("… 2 more lines"), std::string::npos) << small;
  EXPECT_EQ(std::ranges::count(small, '\n'), 2) << "the last line has no end, or all would scroll";
}

TEST(TextTable, characters_are_counted_not_bytes) {
  EXPECT_EQ(width_of("größe"), 5u);
  EXPECT_EQ(cut("größe!", 4), "grö…");
  EXPECT_EQ(printable("a\xff\x01\xc2\x9b"
                      "b"),
            "a???b");
}

}  // namespace
}  // namespace polykv
