// The command line: flag > variable > file > default, and what is wrong is named.
#include "launch/options.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <optional>

#include "launch/agent_keeper.h"
#include "launch/config_file.h"
#include "tests/ipc/temp_dir.h"
#include "tests/launch/expect_error.h"

namespace polykv {
namespace {

using testing::expect_error;

// A variable of the environment for one scope.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    ::setenv(name, value.c_str(), 1);
  }
  ~Variable() { ::unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
};

class Options : public ::testing::Test {
 protected:
  // Of `polykv ARGUMENTS`; what it printed is in out_ and err_.
  std::expected<Arguments, int> parse(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "polykv");
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    auto parsed = parse_arguments(static_cast<int>(arguments.size()), arguments.data());
    out_ = ::testing::internal::GetCapturedStdout();
    err_ = ::testing::internal::GetCapturedStderr();
    return parsed;
  }

  Deployment deployment(std::vector<const char*> arguments) {
    auto parsed = parse(std::move(arguments));
    EXPECT_TRUE(parsed) << err_;
    return parsed ? parsed->deployment : Deployment();
  }

  // A file of the deployment and its path, which stays valid.
  const char* file(const std::string& content) {
    path_ = temp_ / "polykv.toml";
    std::ofstream(path_) << content;
    return path_.c_str();
  }

  void expect_refused(const std::string& content, std::initializer_list<std::string> words) {
    const auto parsed = parse({"up", "--config", file(content)});
    ASSERT_FALSE(parsed) << content;
    EXPECT_EQ(parsed.error(), static_cast<int>(ErrorCode::usage));
    EXPECT_NE(err_.find(path_), std::string::npos) << err_;
    for (const std::string& word : words) {
      EXPECT_NE(err_.find(word), std::string::npos) << "'" << word << "' is not in: " << err_;
    }
  }

  TempDir temp_;
  std::string path_, out_, err_;
};

TEST_F(Options, flag_beats_variable_beats_file_beats_default) {
  const char* config = file("threads = 2\nisa = \"ref\"\nwriter-threads = 5\n[[model]]\nfile='/m'");
  EXPECT_EQ(deployment({"up", "--model", "/m"}).threads, std::nullopt);
  EXPECT_EQ(deployment({"up", "--config", config}).threads, 2);
  const Variable threads("POLYKV_THREADS", "3");
  EXPECT_EQ(deployment({"up", "--config", config}).threads, 3);
  const Deployment made = deployment({"up", "--config", config, "--threads", "4"});
  EXPECT_EQ(made.threads, 4);
  EXPECT_EQ(made.writer_threads, 5);
  EXPECT_EQ(made.isa, "ref");
}

TEST_F(Options, lanes_are_those_of_flag_variable_file_or_one) {
  const char* config = file("lanes = 2\n[[model]]\nfile='/m'");
  EXPECT_EQ(deployment({"up", "--model", "/m"}).lanes, 1);
  EXPECT_EQ(deployment({"up", "--config", config}).lanes, 2);
  const Variable lanes("POLYKV_LANES", "3");
  EXPECT_EQ(deployment({"up", "--config", config}).lanes, 3);
  const Deployment made = deployment({"up", "--config", config, "--lanes", "64"});
  EXPECT_EQ(made.lanes, 64);
  EXPECT_EQ(supervisor_options(made).agent_lanes, 64u);
}

TEST_F(Options, kernels_that_are_not_here_are_refused_from_flag_variable_and_file) {
  const auto expect_usage = [&](const std::vector<const char*>& arguments) {
    const auto parsed = parse(arguments);
    ASSERT_FALSE(parsed);
    EXPECT_EQ(parsed.error(), static_cast<int>(ErrorCode::usage));
    for (const char* words : {"'bogus'", "--isa", "takes ref", "leave it out"}) {
      EXPECT_NE(err_.find(words), std::string::npos) << words << " is not in: " << err_;
    }
  };
  expect_usage({"up", "--model", "/m", "--isa", "bogus"});
  expect_usage({"run", "--model", "/m", "--context", "/c", "--questions", "/q", "--isa", "bogus"});
  expect_usage({"eval", "--model", "/m", "--text", "/t", "--codecs", "f16", "--isa", "bogus"});
  const char* config = file("isa = 'bogus'\n[[model]]\nfile='/m'");
  expect_usage({"up", "--config", config});
  EXPECT_EQ(deployment({"up", "--config", config, "--isa", "ref"}).isa, "ref") << "goes first";
  const Variable isa("POLYKV_ISA", "bogus");
  expect_usage({"up", "--model", "/m"});
  EXPECT_TRUE(parse({"status"})) << "no matter of a client";
}

TEST_F(Options, image_cache_is_that_of_flag_variable_or_file_and_else_there_is_none) {
  const char* config = file("image-cache = 'images'\n[[model]]\nfile='/m'");
  EXPECT_EQ(deployment({"up", "--model", "/m"}).image_cache, "");
  EXPECT_EQ(deployment({"up", "--config", config}).image_cache, temp_ / "images");
  const Variable cache("POLYKV_IMAGE_CACHE", "/v");
  EXPECT_EQ(deployment({"up", "--config", config}).image_cache, "/v");
  const Deployment made = deployment({"up", "--config", config, "--image-cache", "/f"});
  EXPECT_EQ(made.image_cache, "/f");
  EXPECT_EQ(supervisor_options(made).image_cache, "/f");
}

TEST_F(Options, lanes_and_threads_beyond_reason_are_refused_by_name) {
  for (const char* option : {"--lanes", "--threads"}) {
    for (const char* value : {"0", "-1", "1025", "many"}) {
      const auto parsed = parse({"up", "--model", "/m", option, value});
      ASSERT_FALSE(parsed) << option << ' ' << value;
      EXPECT_EQ(parsed.error(), static_cast<int>(ErrorCode::usage));
      EXPECT_NE(err_.find(option), std::string::npos) << err_;
      EXPECT_NE(err_.find(value), std::string::npos) << err_;
    }
  }
  EXPECT_FALSE(parse({"up", "--model", "/m", "--lanes", "65"}));
  EXPECT_FALSE(parse({"eval", "--model", "/m", "--text", "t", "--codecs", "f16", "--lanes", "2"}));
}

TEST_F(Options, cores_are_shared_among_the_agents_where_no_threads_are_named) {
  const auto of = [&](std::vector<const char*> arguments) {
    return supervisor_options(deployment(std::move(arguments)));
  };
  const char* config = file(
      "[[model]]\nfile='/m'\n[[pool]]\ncontext=['/a']\nagents=3\n"
      "[[pool]]\nname='b'\ncontext=['/b']\nagents=5");
  EXPECT_EQ(of({"up", "--config", config}).agent_threads, 0u);
  EXPECT_EQ(of({"up", "--config", config}).first_agents, 8u);
  EXPECT_EQ(of({"up", "--config", config, "--threads", "4"}).agent_threads, 4u);
  EXPECT_EQ(threads_of_each(16, 5), 3u);
  EXPECT_EQ(threads_of_each(16, 0), 16u);
  EXPECT_EQ(threads_of_each(2, 15), 1u);
  EXPECT_EQ(threads_of_each(0, 1), 1u) << "unknown";
}

TEST_F(Options, the_file_may_be_named_by_a_variable) {
  const Variable config("POLYKV_CONFIG", file("threads = 7\n[[model]]\nfile='/m'"));
  EXPECT_EQ(deployment({"up"}).threads, 7);
}

TEST_F(Options, runtime_of_the_file_gives_way_to_the_variable) {
  const char* config = file("runtime = \"/there\"\n[[model]]\nfile='/m'");
  EXPECT_EQ(deployment({"up", "--config", config}).runtime, "/there");
  const Variable runtime("POLYKV_RUNTIME", "/elsewhere");
  EXPECT_EQ(deployment({"up", "--config", config}).runtime, "/elsewhere");
}

TEST_F(Options, a_variable_of_another_command_does_not_overwrite_a_flag) {
  const Variable model("POLYKV_MODEL_NAME", "variable");
  EXPECT_EQ(parse({"pin", "main", "--model", "flag"})->client.model, "flag");
  EXPECT_EQ(parse({"pin", "main"})->client.model, "variable");
  const Variable threads("POLYKV_THREADS", "not a number");
  EXPECT_TRUE(parse({"status"})) << err_;
}

TEST_F(Options, help_lists_the_variable_of_every_option) {
  EXPECT_EQ(parse({"ask", "--help"}).error(), 0);
  for (const char* name : {"RUNTIME", "MAX_TOKENS", "TOP_P", "POOL_VERSION", "AT_LEAST", "DEADLINE",
                           "MODEL_NAME", "JSON", "SEED", "AGENT", "STOP"}) {
    EXPECT_NE(out_.find(cat("(Env:POLYKV_", name, ")")), std::string::npos) << name << out_;
  }
  EXPECT_EQ(out_.find("(Env:POLYKV_HELP)"), std::string::npos);
}

TEST_F(Options, a_bad_value_from_the_environment_is_named) {
  const Variable threads("POLYKV_THREADS", "many");
  EXPECT_EQ(parse({"up", "--model", "/m"}).error(), static_cast<int>(ErrorCode::usage));
  EXPECT_NE(err_.find("POLYKV_THREADS=many"), std::string::npos) << err_;
}

TEST_F(Options, chat_format_is_each_models_own_or_that_of_the_flag) {
  const char* config = file("[[model]]\nfile = \"/a.gguf\"\nchat-format = \"llama3\"\n");
  EXPECT_EQ(deployment({"up", "--config", config}).models[0].chat_format, "llama3");
  const Deployment flagged = deployment({"up", "--config", config, "--chat-format", "plain"});
  EXPECT_EQ(flagged.models[0].chat_format, "plain");
  EXPECT_EQ(supervisor_options(flagged).models[0].chat_format, "plain");
}

TEST_F(Options, printed_config_leaves_the_threads_open_where_nobody_has_set_them) {
  const Deployment made = deployment({"up", "--model", "/m"});
  const std::string printed = print_config(made);
  EXPECT_NE(printed.find("# threads is not set"), std::string::npos) << printed;
  EXPECT_TRUE(deployment({"up", "--config", file(printed)}) == made) << printed;
}

TEST_F(Options, printed_config_reads_back_as_the_same_deployment) {
  const char* first = file(R"(
runtime = "/run/a \"quoted\" # name"
budget = "1.5 GiB"
threads = 2
lanes = 15
isa = "ref"
log-level = "debug"
log-format = "json"
[[model]]
file = "/models/größe,1.gguf"
[[model]]
name = "second"
file = "two.gguf"
chat-format = "plain"
[[pool]]
context = ["/a b", "notes"]
agents = 3
[[pool]]
name = "other"
model = "second"
codec = "k8v3"
ttl = 60
reserve = 100
)");
  const Deployment made = deployment({"up", "--config", first});
  EXPECT_EQ(made.budget_bytes, 1'610'612'736u);
  EXPECT_EQ(made.models.at(1).file, temp_ / "two.gguf") << "beside the file";
  EXPECT_EQ(made.pools.at(1).ttl_seconds, 60);
  const Deployment again = deployment({"up", "--config", file(print_config(made))});
  EXPECT_TRUE(again == made) << print_config(made) << "\nread back as\n" << print_config(again);
}

TEST_F(Options, the_example_in_the_documents_is_a_deployment) {
  std::ifstream in(POLYKV_SOURCE_DIR "/docs/deploying.md");
  const std::string page(std::istreambuf_iterator<char>(in), {});
  const size_t begin = page.find("```toml\n") + 8;
  ASSERT_LT(begin, page.size());
  const Deployment made =
      deployment({"up", "--config", file(page.substr(begin, page.find("```", begin) - begin))});
  EXPECT_EQ(made.models.size(), 2u);
  ASSERT_EQ(made.pools.size(), 2u);
  EXPECT_EQ(made.pools[1].model, "large");
  EXPECT_EQ(made.budget_bytes, 4'000'000'000u);
}

TEST_F(Options, no_writer_is_no_path) {
  const Deployment made = deployment({"up", "--model", "/m", "--writer", "none"});
  EXPECT_EQ(made.writer, "none");
  EXPECT_TRUE(supervisor_options(made).models.at(0).writer_by_hand);
  const Deployment other = deployment({"up", "--model", "/m"});
  EXPECT_FALSE(supervisor_options(other).models.at(0).writer_by_hand);
}

TEST_F(Options, models_get_names_the_first_main_and_the_others_their_files) {
  const auto models =
      deployment({"up", "--model", "/x/a.gguf", "--model", "/x/b.gguf", "--model", "c=/x/d.gguf"})
          .models;
  const std::vector<ModelEntry> wanted{
      {"main", "/x/a.gguf"}, {"b", "/x/b.gguf"}, {"c", "/x/d.gguf"}};
  EXPECT_EQ(models, wanted);
  EXPECT_EQ(parse_model("./a=b.gguf").file, "./a=b.gguf");
}

TEST_F(Options, two_models_of_one_name_are_refused) {
  EXPECT_FALSE(parse({"up", "--model", "a=/x", "--model", "a=/y"}));
  EXPECT_NE(err_.find("'a'"), std::string::npos) << err_;
}

TEST_F(Options, flags_change_the_files_pool_of_that_name_or_add_one) {
  const char* config = file("[[model]]\nfile='/m'\n[[pool]]\ncontext=['/a']\nagents=2\nttl=9");
  const auto changed = deployment({"up", "--config", config, "--agents", "5"}).pools;
  ASSERT_EQ(changed.size(), 1u);
  EXPECT_EQ(changed[0].agents, 5);
  EXPECT_EQ(changed[0].ttl_seconds, 9);
  const auto added =
      deployment({"up", "--config", config, "--pool", "new", "--context", "/b"}).pools;
  ASSERT_EQ(added.size(), 2u);
  EXPECT_EQ(added[1].context, std::vector<std::string>{"/b"});
}

TEST_F(Options, unknown_keys_and_wrong_types_are_refused_with_file_line_and_key) {
  expect_refused("\nthread = 3", {":2:", "'thread'", "threads"});
  expect_refused("threads = \"three\"", {":1:", "'threads'", "three", "1 to 1024"});
  expect_refused("threads = 3.5", {"'threads'", "3.5"});
  expect_refused("threads = 0", {"'threads'", "1 to 1024"});
  expect_refused("lanes = 0", {"'lanes'", "1 to 64"});
  expect_refused("lanes = 65", {"'lanes'", "65", "1 to 64"});
  expect_refused("isa = 3", {"'isa'", "text"});
  expect_refused("budget = \"much\"", {"'budget'", "500MB"});
  expect_refused("budget = -1", {"'budget'"});
  expect_refused("model = \"a.gguf\"", {"'model'", "[[model]]"});
  expect_refused("[[pool]]\nagents = \"two\"", {":2:", "[[pool]] agents", "0 to 256"});
  expect_refused("[[pool]]\ncontext = [1]", {"[[pool]] context", "paths"});
  expect_refused("[[pool]]\nsize = 1", {"[[pool]] size", "context"});
  expect_refused("a = b", {":1:"});
}

TEST_F(Options, a_missing_file_is_named) {
  EXPECT_FALSE(parse({"up", "--config", "/no/such.toml"}));
  EXPECT_NE(err_.find("/no/such.toml"), std::string::npos) << err_;
}

TEST_F(Options, what_does_not_fit_together_is_refused) {
  const auto code = [&](std::vector<const char*> arguments) {
    const auto parsed = parse(std::move(arguments));
    return parsed ? 0 : parsed.error();
  };
  EXPECT_EQ(code({"up"}), 2) << "no model";
  EXPECT_EQ(code({"up", "--model", "/m", "--agents", "2"}), 8) << "no context";
  EXPECT_EQ(code({"up", "--model", "/m", "--context", "/a", "--agents", "257"}), 8);
  EXPECT_EQ(code({"up", "--model", "/m", "--context", "/a", "--codec", "k9v9"}), 7);
  EXPECT_EQ(code({"up", "--model", "/m", "--log-format", "xml"}), 2);
  EXPECT_EQ(code({"up", "--config", file("[[model]]\nfile='/m'\n[[pool]]\nmodel='x'")}), 2);
  EXPECT_EQ(code({"ask", "q", "--pool-version", "1", "--at-least", "2"}), 2);
  EXPECT_EQ(code({"append", "f", "--role", "wizard"}), 2);
  EXPECT_EQ(code({"agent"}), 2);
}

TEST_F(Options, every_client_command_is_told_the_absolute_runtime) {
  const Variable runtime("POLYKV_RUNTIME", "/rt");
  EXPECT_EQ(parse({"status"})->status.runtime, "/rt");
  EXPECT_EQ(parse({"ask", "q"})->ask.runtime, "/rt");
  const auto start = parse({"agent", "start", "-n", "3", "--runtime", "there"});
  EXPECT_EQ(start->command, "agent start");
  EXPECT_EQ(start->client.count, 3);
  EXPECT_TRUE(start->client.runtime.starts_with('/')) << start->client.runtime;
}

TEST(Size, is_read_in_powers_of_1000_or_with_an_i_of_1024) {
  EXPECT_EQ(*parse_size("1000"), 1000u);
  EXPECT_EQ(*parse_size("500MB"), 500'000'000u);
  EXPECT_EQ(*parse_size("500m"), 500'000'000u);
  EXPECT_EQ(*parse_size("2 GiB"), 2'147'483'648u);
  for (const char* bad : {"", "MB", "-1", "5 bananas", "1e30", "5ib", "nan"}) {
    expect_error(parse_size(bad), ErrorCode::usage, {cat("'", bad, "'")});
  }
}

}  // namespace
}  // namespace polykv
