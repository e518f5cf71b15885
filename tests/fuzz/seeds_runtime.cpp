// Seeds of what processes tell each other and of what people write.
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "ipc/manifest.h"
#include "ipc/message.h"
#include "ipc/segment.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/seeds.h"
#include "tests/ipc/filled_message.h"

namespace polykv::fuzz {
namespace {

using nlohmann::json;

std::string bytes_of(Result<UniqueFd> fd) {
  check(fd.has_value(), fd ? "" : fd.error().message.c_str());
  const auto view = SharedView::map(std::move(*fd));
  check(view.has_value(), "sealed memory maps");
  return {reinterpret_cast<const char*>(view->data().data()), view->data().size()};
}

std::string segment(const char* codec, uint32_t n_tokens) {
  SegmentSpec spec;
  spec.shape.n_layers = 1;
  spec.shape.n_kv_heads = 1;
  spec.shape.head_dim = 64;
  spec.codec = *parse_codec(codec);
  for (uint32_t i = 0; i < n_tokens; ++i) spec.tokens.push_back(i);
  std::vector<float> rows(size_t{n_tokens} * 64);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i % 13) - 6;
  auto builder = SegmentBuilder::create(spec, {});
  check(builder.has_value(), "a small segment can be made");
  builder->put_layer(0, rows.data(), rows.data());
  return bytes_of(std::move(*builder).seal());
}

void add_shared_memory(AllSeeds& all) {
  for (const char* codec : {"k4v4", "k8v3", "k2v2", "f16", "f32", "paper"}) {
    all["segment"].inputs[codec] = '\3' + segment(codec, 6);
    all["segment"].inputs[cat(codec, "_as_is")] = '\2' + segment(codec, 2);
  }
  const std::string whole = '\3' + segment("k4v4", 6);
  constexpr size_t kTable = 3 * sizeof(PlaneEntry);
  add_spoilt_words(all["segment"], "header", whole, 1, sizeof(SegmentHeader) + kTable);
  add_spoilt_words(all["segment"], "sealed", '\2' + whole.substr(1), 1, sizeof(SegmentHeader));
  add_spoilt_words(all["segment"], "padding", '\2' + whole.substr(1), whole.size() - 4, 4);
  add_cut_short(all["segment"], "whole", whole, 100);
  Manifest manifest;
  manifest.version = 1;
  manifest.spans.push_back({{1}, 0, 10, 0, 4096});
  manifest.spans.push_back({{2}, 0, 5, 10, 8192});
  manifest.spans.push_back({{1}, 2, 7, 20, 4096});
  const std::string bytes = bytes_of(seal_manifest(manifest, {}));
  add_spoilt_words(all["manifest"], "resealed", '\1' + bytes, 1, bytes.size());
  add_spoilt_words(all["manifest"], "as_is", '\0' + bytes, 1, bytes.size());
  add_cut_short(all["manifest"], "whole", '\1' + bytes, 40);
}

void add_messages(AllSeeds& all) {
  std::set<FieldKind> seen;  // of each kind one field is spoilt
  Seeds& seeds = all["message"];
  for (const MessageSchema& schema : message_schemas()) {
    seeds.words.emplace_back(schema.name);
    for (const Field& field : schema.fields) seeds.words.push_back(cat('"', field.name, '"'));
    if (schema.way.empty()) continue;  // only part of others
    json message = json::parse(testing::filled_message(schema));
    message["v"] = kProtocolVersion;
    message["type"] = schema.name;
    message["id"] = "r1";
    seeds.inputs[std::string(schema.name)] = message.dump();
  }
  const std::string whole = R"({"v": 1, "type": "status", "id": "r1"})";
  add_cut_short(seeds, "status", whole, 1);
  size_t n = 0;
  for (const std::string other :
       {R"([])", R"({"v": 2, "type": "status", "id": "r1"})", R"({"v": 1, "type": "nonsense"})",
        R"({"v": 1, "type": 5})", R"({"v": 1, "type": "status", "x": 1})",
        R"({"v": 1, "v": 1, "type": "status"})", R"({"v": 1, "type": "error", "code": "io"})",
        R"({"v": 1, "type": "error", "code": "io", "message": 5, "value": "", "limit": ""})",
        R"({"v": "1"})", R"({"a": [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]})", R"({"id": "a b"})",
        R"({"v": 1e400})", "{\"v\": \"\xff\"}"}) {
    seeds.inputs[cat("bad", n++)] = other;
  }
  for (const MessageSchema& schema : message_schemas()) {
    json message = json::parse(testing::filled_message(schema));
    message.update({{"v", kProtocolVersion}, {"type", schema.name}, {"id", "r1"}});
    for (const Field& field : schema.fields) {
      if (schema.way.empty() || !seen.insert(field.kind).second) continue;
      for (const json& wrong : {json(false), json(-1e300), json("\n"), json::array({0.5, false})}) {
        message[std::string(field.name)] = wrong;
        seeds.inputs[cat("wrong", n++)] = message.dump();
      }
    }
  }
  std::ranges::sort(seeds.words);
  const auto [first, last] = std::ranges::unique(seeds.words);
  seeds.words.erase(first, last);
}

void add_deployments(AllSeeds& all) {
  Seeds& file = all["deployment"];
  file.inputs["all"] =
      "runtime = \"/run/x\"\nbudget = \"2GB\"\nthreads = 2\nlanes = 3\nwriter-threads = 1\n"
      "isa = \"ref\"\nwriter = \"none\"\nagent-program = \"a\"\nlog-level = \"info\"\n"
      "log-format = \"json\"\n[[model]]\nname = \"m\"\nfile = \"m.gguf\"\nchat-format = "
      "\"chatml\"\n"
      "[[pool]]\nname = \"main\"\nmodel = \"m\"\ncodec = \"k4v4\"\ncontext = [\"a.txt\", \"-\"]\n"
      "ttl = 60\nreserve = 10\nagents = 3\n";
  file.inputs["small"] = "budget = 1000\n[[model]]\nfile = 'm'\n[[pool]]\ncontext = 'x'\n";
  file.inputs["unknown"] = "thread = 1\n[[modl]]\n";
  size_t n = 0;
  const std::string model = "[[model]]\nname = 'm'\nfile = '/m'\n";
  for (const char* wrong : {"log-level = 'x'\n", "log-format = 'x'\n", "isa = 'x'\n",
                            "writer = '/no'\n", "budget = 'x'\n"}) {
    file.inputs[cat("wrong", n++)] = wrong + model;
  }
  for (const char* pool :
       {"codec = 'x'", "name = 'a/b'", "name = ''", "model = 'other'", "context = []",
        "agents = 70000", "context = 'x'\nagents = 2\n[[pool]]\ncontext = 'y'", "ttl = -1"}) {
    file.inputs[cat("wrong", n++)] = cat(model, "[[pool]]\n", pool, "\n");
  }
  file.inputs["twice"] = model + model;
  file.inputs["nameless"] = model + "[[model]]\nfile = '/b/c.gguf'\n";
  file.inputs["types"] = "threads = 'x'\nbudget = 1.5\nmodel = 3\n";
  for (const char* word : {"runtime",
                           "budget",
                           "threads",
                           "lanes",
                           "writer-threads",
                           "isa",
                           "writer",
                           "agent-program",
                           "log-level",
                           "log-format",
                           "[[model]]",
                           "[[pool]]",
                           "name",
                           "file",
                           "chat-format",
                           "codec",
                           "context",
                           "ttl",
                           "reserve",
                           "agents",
                           "\"\"\"",
                           "'''",
                           "0x",
                           "1979-05-27",
                           "inf",
                           "{",
                           "["}) {
    file.words.emplace_back(word);
  }
}

void add_command_lines(AllSeeds& all) {
  Seeds& line = all["arguments"];
  line.inputs["up"] = "up\n--model\nm=/m.gguf\n--context\n/a\n--agents\n3\n--budget\n2GB";
  line.inputs["run"] = "run\n--model\n/m.gguf\n--context\na\n--agents\n2\n--codec\nk8v3";
  line.inputs["eval"] = "eval\n--model\n/m\n--text\nt\n--codecs\nf16,k4v4";
  line.inputs["ask"] = "ask\nmain\nWhat?\n--max-tokens\n5\n--temperature\n0.5\n--stop\nx";
  line.inputs["pool"] = cat("up\n--model\n/m\n--context\na\n--pool\np\n--codec\nk8v3\n--ttl\n9\n",
                            "--agents\n2\n--chat-format\nplain\n--budget\n1GB");
  line.inputs["bad_size"] = "up\n--model\n/m\n--budget\nlots";
  line.inputs["two"] = "run\n--model\n/m\n--model\n/n\n--context\na";
  line.inputs["private"] = "run\n--model\n/m\n--context\na\n--runtime\nr";
  line.inputs["unknown"] = "up\n--nonsense";
  line.inputs["help"] = "--help";
  line.inputs["status"] = "status\n--json";
  line.inputs["words"] = "500MB\n2GiB\nx=/y\n/a=b\npaper\nk2v8\nf32\n99999999999TB";
  for (const char* word :
       {"--model", "--agents", "--context", "--budget", "--runtime", "--json", "--threads",
        "--seed",  "--top-p",  "--ttl",     "--pool",   "agent",     "start",  "watch",
        "doctor",  "down",     "pin",       "chat",     "GiB",       "k4v4",   "--log-level"}) {
    line.words.emplace_back(word);
  }
}

void add_texts(AllSeeds& all) {
  const json formats = json::parse(read_fixture("chat.json"));
  for (const json& format : formats) {
    const std::string name = format["format"];
    all["chat"].inputs[name] =
        format["recognised"].is_string()
            ? format["recognised"].get<std::string>() + '\0' + "Be brief. " + '\0' + " What?\n"
            : name + '\0' + '\0' + "x";
  }
  all["chat"].words = {"<|im_start|>",      "<|im_end|>",      "[INST]",
                       "[/INST]",           "<<SYS>>",         " [INST] ",
                       "<start_of_turn>",   "<end_of_turn>",   "<|start_header_id|>",
                       "<|end_header_id|>", "[SYSTEM_PROMPT]", "bos_token + '[INST]"};
  all["text"].inputs["stops"] = std::string("\2END\0\n\n\0One two E EN END more", 27);
  all["text"].inputs["utf8"] =
      std::string("\0\0\0\xf0\x9f\x98\x80\xe2\x82\xac\xc3\xa9z\xed\xa0\x80", 17);
  all["text"].words = {"\xf4\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xed\x9f\xbf", "\xe0\x80\x80",
                       "\xc0"};
}

}  // namespace

void add_runtime_seeds(AllSeeds& all) {
  add_shared_memory(all);
  add_messages(all);
  add_deployments(all);
  add_command_lines(all);
  add_texts(all);
}

}  // namespace polykv::fuzz
